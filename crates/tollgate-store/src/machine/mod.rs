//! What only the processor and the system's memory can say or do. All unsafe code of this crate is here.
#![allow(unsafe_code)]

pub(crate) mod cpu;
pub(crate) mod pages;
