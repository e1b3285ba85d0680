//! The compiled filter: embedded, loaded, and run dry on single packets.

use aya::maps::MapData;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use super::error::XdpError;
use super::maps::{FilterMaps, PINNED};
use super::pins::PinDirectory;
use crate::io::Side;
use crate::steering::Decision;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baton.bpf.o"));

/// Both entry points, accepted by the verifier, and their maps.
pub(super) struct Loaded {
    object: Ebpf,
    pub(super) maps: FilterMaps,
}

impl Loaded {
    /// Loads the filter with its maps pinned in `pins`; maps that are pinned already are used as they are.
    pub(super) fn pinned(pins: &PinDirectory) -> Result<Self, XdpError> {
        let mut loader = EbpfLoader::new();
        for name in PINNED {
            loader.map_pin_path(name, pins.map(name));
        }
        Self::load(&mut loader)
    }

    fn load(loader: &mut EbpfLoader<'_>) -> Result<Self, XdpError> {
        // The filter uses no kernel types, so it needs no kernel BTF, which some kernels lack.
        let mut object = loader.btf(None).load(OBJECT).map_err(|error| XdpError::load(&error))?;
        let maps = FilterMaps::of(&mut object)?;
        let mut filter = Self { object, maps };
        for side in Side::ALL {
            filter.program(side)?.load().map_err(|error| XdpError::load(&error))?;
        }
        Ok(filter)
    }

    /// The entry point of a side; in C it has the side's name.
    pub(super) fn program(&mut self, side: Side) -> Result<&mut Xdp, XdpError> {
        let missing = || XdpError::Load(format!("it has no entry point `{}`", side.name()));
        let program = self.object.program_mut(side.name()).ok_or_else(missing)?;
        program.try_into().map_err(|error: aya::programs::ProgramError| XdpError::load(&error))
    }
}

/// What the kernel makes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DryRunResult {
    /// The XDP action: 1 `XDP_DROP`, 2 `XDP_PASS`, 3 `XDP_TX`, 4 `XDP_REDIRECT`.
    pub action: u32,
    /// The verdict and the segment.
    pub decision: Decision,
}

/// The filter in the kernel, attached to nothing and pinned nowhere: shows what would become of a packet.
pub struct DryRun(Loaded);

impl std::fmt::Debug for DryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DryRun").finish_non_exhaustive()
    }
}

impl DryRun {
    /// Loads the filter with maps of its own, which are empty: nothing is owned, no address is ours.
    ///
    /// # Errors
    /// [`XdpError::Privilege`] and [`XdpError::Load`].
    pub fn load() -> Result<Self, XdpError> {
        let tracing = 1_u32;
        Loaded::load(EbpfLoader::new().override_global("tracing", &tracing, true)).map(Self)
    }

    /// Its maps, to be filled.
    pub const fn maps(&mut self) -> &mut FilterMaps {
        &mut self.0.maps
    }

    /// What becomes of `frame` (from its Ethernet header on), received on `side`, queue 0.
    ///
    /// # Errors
    /// [`XdpError::Load`] when the kernel refuses to run it: it wants at least the 14 octets of an Ethernet header.
    pub fn run(&mut self, side: Side, frame: &[u8]) -> Result<DryRunResult, XdpError> {
        self.run_into(side, frame, &mut Vec::new())
    }

    /// As [`run`](Self::run); `out` is the frame as it is afterwards, where it has room for it.
    ///
    /// # Errors
    /// As for that, and when `out` is not empty and shorter than `frame`.
    pub fn run_into(
        &mut self,
        side: Side,
        frame: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<DryRunResult, XdpError> {
        let data_out = Some(&mut out[..]).filter(|out| !out.is_empty());
        let options = TestRunOptions { data_in: Some(frame), data_out, ..TestRunOptions::new() };
        let result = self.0.program(side)?.test_run(options).map_err(|error| XdpError::load(&error))?;
        let traced = self.0.maps.traced()?;
        let decision = traced.ok_or_else(|| XdpError::Load("it left no trace of the packet".to_owned()))?;
        out.truncate(result.data_size_out as usize);
        Ok(DryRunResult { action: result.return_value, decision })
    }
}

/// The layout number in a pinned config map; `None` when no such map is pinned.
pub(super) fn pinned_layout(pins: &PinDirectory) -> Result<Option<u32>, XdpError> {
    let path = pins.map(super::maps::CONFIG);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let foreign = |reason: String| XdpError::damaged(pins.path(), reason);
    let data = MapData::from_pin(&path).map_err(|error| foreign(super::error::chain(&error)))?;
    let map = aya::maps::Map::from_map_data(data).map_err(|error| foreign(super::error::chain(&error)))?;
    let config =
        aya::maps::Array::<_, u32>::try_from(map).map_err(|_| foreign("`config` is no config map".into()))?;
    let layout = config.get(&super::shared::CONFIG_LAYOUT, 0);
    layout.map(Some).map_err(|error| XdpError::map(super::maps::CONFIG, "read", &error))
}
