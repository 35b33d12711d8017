//! What only the processor itself can say or do.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use std::arch::x86_64 as arch;

/// Whether [`counter`] counts anything.
///
/// Of aarch64 there is a counter too, but the standard library has no call for it, and on some of its processors the
/// kernel has to work around mistakes in it. Miri knows no processor.
pub(crate) const HAS_COUNTER: bool = cfg!(all(target_arch = "x86_64", target_os = "linux", not(miri)));

/// The ticks that the processor has counted; 0 where it has no counter.
///
/// It does not wait for earlier instructions: a memory access that is under way is no reason to wait, and the answer
/// may be some tens of nanoseconds older than the place in the program suggests.
#[inline]
pub(crate) fn counter() -> u64 {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    {
        // SAFETY: every x86-64 processor has the instruction, and it touches no memory. A process that had it
        // forbidden by the kernel (PR_SET_TSC) is ended by a signal, which the kernel's own clock would cause as well.
        unsafe { arch::_rdtsc() }
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
    0
}

/// Whether the processor promises that its counter runs at one pace, whatever saves power.
pub(crate) fn counter_is_invariant() -> bool {
    const EXTENDED_LEAVES: u32 = 0x8000_0000;
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    let [most, _, _] = leaf(EXTENDED_LEAVES);
    let [_, _, edx] = leaf(POWER_MANAGEMENT);
    // A leaf that is not there is answered with another one.
    most >= POWER_MANAGEMENT && edx & (1 << 8) != 0
}

/// Whether the processor says that it is lent out by a hypervisor.
pub(crate) fn is_guest() -> bool {
    let [_, ecx, _] = leaf(1);
    ecx & (1 << 31) != 0
}

/// The registers EAX, ECX and EDX of `cpuid`; zeros where there is no such instruction.
fn leaf(number: u32) -> [u32; 3] {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let registers = arch::__cpuid(number);
        [registers.eax, registers.ecx, registers.edx]
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        let _ = number;
        [0; 3]
    }
}

/// Asks the processor to have this place near when it is read or written soon. Does nothing where that cannot be asked.
#[inline]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: SSE, of which this instruction is, belongs to every x86-64 processor. It is a hint: it reads nothing
        // into the program and cannot fault, and the address is that of a live reference anyway.
        unsafe { arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_any_size_can_be_asked_for() {
        prefetch(&());
        prefetch(&[0_u8; 4_096]);
        let places = vec![1_u64; 3];
        prefetch(&places[2]);
        assert_eq!(places, [1; 3]);
    }

    #[test]
    fn the_counter_counts_where_there_is_one() {
        let first = counter();
        // Long enough for reads that the processor reorders.
        for _ in 0..1_000 {
            std::hint::black_box(counter());
        }
        assert_eq!(counter() > first, HAS_COUNTER);
    }
}
