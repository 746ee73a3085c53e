//! Asks the processor to fetch memory that will be needed soon.
//!
//! A prefetch is a hint: it reads nothing into the program, never faults and may name any address at
//! all, so these functions are safe whatever they are given. Elsewhere than on x86-64, and under
//! miri, they do nothing.

/// Size of a cache line on the machines this runs on, in bytes.
pub const LINE_BYTES: usize = 64;

/// Fetches the line that holds this address.
#[inline]
pub fn address(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction is a hint that never faults nor changes memory, for any address
        // (Intel SDM vol. 2, PREFETCHh); SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// Fetches the line at the start of a value.
#[inline]
pub fn start_of<T: ?Sized>(value: &T) {
    address(std::ptr::from_ref(value).cast::<u8>().addr());
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_address_may_be_named() {
        for address in [0, 1, 64, usize::MAX / 2, usize::MAX] {
            super::address(address);
        }
        super::start_of(&[1u8, 2, 3][..]);
    }
}
