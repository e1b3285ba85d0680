use std::fmt;

const SHOWN: usize = 32;

/// Octets that may be read in a log, the first of them if they are many.
pub(super) struct Hexadecimal<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Hexadecimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for octet in self.0.iter().take(SHOWN) {
            write!(f, "{octet:02x}")?;
        }
        if self.0.len() > SHOWN { write!(f, "... ({} octets)", self.0.len()) } else { Ok(()) }
    }
}

/// Octets of which a log only says how many there are.
pub(super) struct Length<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Length<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}
