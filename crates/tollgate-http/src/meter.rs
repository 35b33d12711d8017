//! Charging for what a body holds.

use std::fmt;
use std::num::NonZeroU64;

/// Counts what a body holds, and charges for it when it is dropped: when the body is at its end, or given up.
pub struct BodyMeter {
    bytes: u64,
    bytes_per_unit: NonZeroU64,
    charge: Option<Box<dyn FnOnce(u32) + Send>>,
}

impl BodyMeter {
    /// Charges one unit for every so many bytes, the last ones too if they are fewer; not at all if there are none.
    pub fn new(bytes_per_unit: NonZeroU64, charge: impl FnOnce(u32) + Send + 'static) -> Self {
        Self { bytes: 0, bytes_per_unit, charge: Some(Box::new(charge)) }
    }

    /// So many more were sent.
    pub const fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

impl Drop for BodyMeter {
    fn drop(&mut self) {
        let units = u32::try_from(self.bytes.div_ceil(self.bytes_per_unit.get())).unwrap_or(u32::MAX);
        if let Some(charge) = self.charge.take()
            && units > 0
        {
            charge(units);
        }
    }
}

impl fmt::Debug for BodyMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyMeter")
            .field("bytes", &self.bytes)
            .field("bytes_per_unit", &self.bytes_per_unit)
            .finish_non_exhaustive()
    }
}
