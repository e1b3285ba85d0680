//! What scapy forges.
