//! Whether the processor's counter can be believed.

use std::fs;
use std::io;

use super::ClockError;
use crate::machine::cpu;

/// Where Linux says by what it keeps its own time.
pub(super) const KERNELS_CHOICE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Looks at this machine.
pub(super) fn counter_is_trusted() -> Result<(), ClockError> {
    if !cpu::HAS_COUNTER {
        return Err(ClockError::NoCounter);
    }
    judge(&fs::read_to_string(KERNELS_CHOICE), cpu::counter_is_invariant(), cpu::is_guest())
}

/// Decides by what the kernel uses, whether the processor promises a steady pace, and whether it is lent out.
///
/// The kernel comes first, because it knows what a program cannot find out: whether the counters of all processors
/// agree, and whether they did so all the time since the start. It also reads the counter itself for the monotonic
/// clock, so a counter that it trusts wrongly would spoil that clock just the same.
///
/// A processor that does not promise a steady pace is believed over a kernel that was told to use its counter all the
/// same. In a guest that promise means something else: hypervisors withhold it to keep the guest free to move to
/// another host, not because the counter is bad. There the kernel's word is enough: when the pace changes with the
/// host, the monotonic clock is what the counter is held to.
fn judge(kernel: &io::Result<String>, invariant: bool, guest: bool) -> Result<(), ClockError> {
    let kernel = match kernel {
        Ok(text) => text.trim_end(),
        Err(error) => return Err(ClockError::KernelUnknown(error.to_string())),
    };
    if kernel != "tsc" {
        return Err(ClockError::KernelDoubts(kernel.to_owned()));
    }
    if invariant || guest { Ok(()) } else { Err(ClockError::Unsteady) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_comes_first_and_the_promise_counts_on_bare_metal() {
        let tsc = &Ok("tsc\n".to_owned());
        assert_eq!(judge(tsc, true, false), Ok(()));
        assert_eq!(judge(tsc, true, true), Ok(()));
        assert_eq!(judge(tsc, false, true), Ok(()));
        assert_eq!(judge(tsc, false, false), Err(ClockError::Unsteady));
        for other in ["kvm-clock", "hpet", "acpi_pm", "tsc-early", "hyperv_clocksource_tsc_page", "TSC", ""] {
            let told = judge(&Ok(format!("{other}\n")), true, true);
            assert_eq!(told, Err(ClockError::KernelDoubts(other.to_owned())));
        }
        let missing = judge(&Err(io::ErrorKind::NotFound.into()), true, true);
        assert!(matches!(missing, Err(ClockError::KernelUnknown(_))));
    }

    #[test]
    fn what_to_do_is_said() {
        let told = ClockError::KernelDoubts("kvm-clock".to_owned()).to_string();
        for part in ["`kvm-clock`", "clocksource=tsc", KERNELS_CHOICE, "`auto`", "`monotonic`"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
