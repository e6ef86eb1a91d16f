//! Time in the dead kernel: when it died, how long it ran, how fast it ticked.
//!
//! The timekeeper (`struct timekeeper`, include/linux/timekeeper_internal.h)
//! holds all clocks as of its last update, which every tick makes: monotonic
//! time is `tkr_mono.base + (tkr_mono.xtime_nsec >> tkr_mono.shift)`, and
//! `offs_real` and `offs_boot` lead to wall time and to the time since boot
//! with suspend (`ktime_get_update_offsets_now`, kernel/time/timekeeping.c).
//! It lies behind a sequence counter in `tk_core`; from v6.17
//! in the first element of `timekeeper_data`. An update is computed in the
//! shadow timekeeper and copied while the counter is odd: a dump that fell into
//! the copy is read from the shadow.
//!
//! `HZ` is a constant of the build that no variable holds. The timekeeper
//! knows the length of a tick: `ntp_tick` (ns << 32) is 1 s / HZ.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::place_of;
use crate::{Kernel, layout};

layout! {
    /// `struct timekeeper`, include/linux/timekeeper_internal.h
    pub struct TimekeeperLayout for "timekeeper" {
        clock: u64 = "tkr_mono.clock",
        shift: u32 = "tkr_mono.shift",
        xtime_nsec: u64 = "tkr_mono.xtime_nsec",
        base: i64 = "tkr_mono.base",
        offs_real: i64 = "offs_real",
        offs_boot: i64 = "offs_boot",
        ntp_tick: u64 = "ntp_tick",
    }
}

layout! {
    /// `struct clocksource`, include/linux/clocksource.h
    pub struct ClocksourceLayout for "clocksource" {
        name: u64 = "name",
    }
}

/// The clocks, as the kernel last updated them.
#[derive(Debug, Clone, Serialize)]
pub struct Clock {
    /// Wall time, ns since 1970 (UTC).
    pub realtime_ns: i64,
    /// Time since boot without suspend, ns.
    pub monotonic_ns: i64,
    /// Time since boot with suspend, ns.
    pub boottime_ns: i64,
    /// Wall time of the boot, ns since 1970 (UTC), by the clock as it was set
    /// last.
    pub booted_ns: i64,
    /// Which timekeeper says so.
    pub source: ClockSource,
    /// The clock behind it, such as "tsc" or "kvm-clock".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clocksource: Option<String>,
    /// Ticks per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hz: Option<u32>,
    /// `jiffies_64`, ticks since five minutes before the boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jiffies: Option<u64>,
    /// Load averages over 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<[f64; 3]>,
    /// Wall time at which the kernel handed over to the capture kernel (s
    /// since 1970), in dumps that one took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_time_s: Option<u64>,
}

/// Where the clocks were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    /// The timekeeper that the kernel itself reads.
    Timekeeper,
    /// Its shadow: the machine stopped while it was being updated.
    Shadow,
}

impl Clock {
    /// Time since boot counted in ticks, ns.
    pub fn jiffies_uptime_ns(&self) -> Option<u64> {
        let hz = u64::from(self.hz?);
        let ticks = self.jiffies?.wrapping_sub(initial_jiffies(hz));
        ticks.checked_mul(1_000_000_000).map(|ns| ns / hz)
    }
}

/// `INITIAL_JIFFIES` (include/linux/jiffies.h): 32 bits of -300 s.
fn initial_jiffies(hz: u64) -> u64 {
    u64::from((300 * hz as u32).wrapping_neg())
}

/// Ticks per second from the length of a tick in ns. NTP may stretch a tick by
/// up to a tenth; nothing but a rate that kernels are built for
/// (kernel/Kconfig.hz and its like) is believed.
fn hz_of_tick(tick_ns: u64) -> Option<u32> {
    const RATES: [u32; 12] = [24, 48, 64, 100, 128, 200, 250, 256, 300, 500, 1000, 1024];
    if tick_ns == 0 {
        return None;
    }
    let exact = 1e9 / tick_ns as f64;
    let off = |rate: &u32| (exact - f64::from(*rate)).abs() / f64::from(*rate);
    RATES.into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).filter(|rate| off(rate) < 0.1)
}

impl Kernel {
    /// The clocks of the dead kernel.
    pub fn clock(&self) -> Result<Clock> {
        let layout = self.layout::<TimekeeperLayout>()?;
        let (timekeeper, source) = self.timekeeper()?;
        let shift = layout.shift.read(self, timekeeper)?;
        let fraction = layout.xtime_nsec.read(self, timekeeper)?.checked_shr(shift);
        let fraction = fraction.ok_or_else(|| Error::corrupt("the timekeeper", timekeeper))?;
        let monotonic_ns = layout.base.read(self, timekeeper)?.wrapping_add(fraction as i64);
        let boottime_ns = monotonic_ns.wrapping_add(layout.offs_boot.read(self, timekeeper)?);
        let realtime_ns = monotonic_ns.wrapping_add(layout.offs_real.read(self, timekeeper)?);
        let tick_ns = layout.ntp_tick.read(self, timekeeper).map(|t| t >> 32);
        Ok(Clock {
            realtime_ns,
            monotonic_ns,
            boottime_ns,
            booted_ns: realtime_ns.wrapping_sub(boottime_ns),
            source,
            clocksource: self.clocksource_name(layout.clock.read(self, timekeeper)?),
            hz: tick_ns.ok().and_then(hz_of_tick),
            jiffies: self.symbol("jiffies_64").and_then(|a| self.read_u64(a)).ok(),
            load: self.load().ok(),
            crash_time_s: self.vmcoreinfo().and_then(|info| info.crash_time()),
        })
    }

    fn clocksource_name(&self, clocksource: u64) -> Option<String> {
        let name = self.layout::<ClocksourceLayout>().ok()?.name.read(self, clocksource).ok()?;
        self.read_cstring(name, 64).ok()
    }

    /// Address of the timekeeper to read.
    fn timekeeper(&self) -> Result<(u64, ClockSource)> {
        // An array of tk_data, the machine's own timekeeper first.
        let core = self.symbol("timekeeper_data").or_else(|_| self.symbol("tk_core"))?;
        let (own, shadow) = match self.ty("tk_data") {
            Ok(ty) => {
                let at = |name| place_of(ty, name).map(|p| core.wrapping_add(p.offset));
                (at("timekeeper"), at("shadow_timekeeper"))
            }
            // A structure without a name: { sequence counter, timekeeper }.
            Err(_) => {
                let counter =
                    self.ty("seqcount_raw_spinlock_t").or_else(|_| self.ty("seqcount_t"))?;
                let size = counter.size().unwrap_or(0).next_multiple_of(8);
                (Some(core.wrapping_add(size)), self.symbol("shadow_timekeeper").ok())
            }
        };
        // The counter itself is the first word, however it is wrapped.
        let copying = self.read_u32(core)? & 1 == 1;
        match (own, shadow) {
            (_, Some(shadow)) if copying => Ok((shadow, ClockSource::Shadow)),
            (Some(own), _) => Ok((own, ClockSource::Timekeeper)),
            _ => Err(Error::NoMember { ty: "tk_data".into(), names: "timekeeper".into() }),
        }
    }

    /// `avenrun`: fixed point with 11 fractional bits (kernel/sched/loadavg.c).
    fn load(&self) -> Result<[f64; 3]> {
        let at = self.symbol("avenrun")?;
        let mut load = [0.0; 3];
        for (i, value) in load.iter_mut().enumerate() {
            *value = self.read_u64(at + i as u64 * 8)? as f64 / 2048.0;
        }
        Ok(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_tells_the_rate() {
        assert_eq!(hz_of_tick(4_000_000), Some(250));
        assert_eq!(hz_of_tick(1_000_000), Some(1000));
        assert_eq!(hz_of_tick(10_000_000), Some(100));
        assert_eq!(hz_of_tick(3_333_333), Some(300));
        // Slowed by NTP.
        assert_eq!(hz_of_tick(4_002_000), Some(250));
        assert_eq!(hz_of_tick(0), None);
        assert_eq!(hz_of_tick(1), None);
        assert_eq!(hz_of_tick(u64::MAX), None);
    }

    #[test]
    fn jiffies_start_five_minutes_before_zero() {
        assert_eq!(initial_jiffies(250), 0xfffe_db08);
        let clock = Clock {
            realtime_ns: 0,
            monotonic_ns: 0,
            boottime_ns: 0,
            booted_ns: 0,
            source: ClockSource::Timekeeper,
            clocksource: None,
            hz: Some(250),
            jiffies: Some(0xfffe_db08 + 500),
            load: None,
            crash_time_s: None,
        };
        assert_eq!(clock.jiffies_uptime_ns(), Some(2_000_000_000));
    }
}
