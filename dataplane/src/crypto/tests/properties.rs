//! What holds for every packet of every suite.
