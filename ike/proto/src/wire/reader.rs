use super::ParseError;

/// Reads fields of one structure in their order.
pub(super) struct Reader<'a> {
    octets: &'a [u8],
    structure: &'static str,
}

impl<'a> Reader<'a> {
    /// `structure` is what errors name.
    pub(super) fn new(structure: &'static str, octets: &'a [u8]) -> Self {
        Self { octets, structure }
    }

    pub(super) fn error<T>(&self) -> Result<T, ParseError> {
        Err(ParseError::Syntax(self.structure))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.octets.split_at_checked(count).ok_or(ParseError::Syntax(self.structure))?;
        self.octets = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (taken, rest) = self.octets.split_first_chunk().ok_or(ParseError::Syntax(self.structure))?;
        self.octets = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ParseError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, ParseError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, ParseError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, ParseError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.octets)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.is_empty() { Ok(()) } else { self.error() }
    }
}
