//! What stands for an expression in a build without them. There is none.

use super::{ExpressionError, Purpose};
use crate::attribute::Attributes;

pub(super) enum Compiled {}

impl Compiled {
    pub(super) fn new(_text: &str) -> Result<Self, ExpressionError> {
        Err(ExpressionError::new("this build reads no expressions: build it with the feature `expressions`"))
    }

    pub(super) fn check(&self, _purpose: Purpose) -> Result<(), ExpressionError> {
        match *self {}
    }

    pub(super) fn condition(&self, _request: &(impl Attributes + ?Sized), _path: &str) -> Option<bool> {
        match *self {}
    }

    pub(super) fn text(&self, _request: &(impl Attributes + ?Sized), _path: &str) -> Option<String> {
        match *self {}
    }

    pub(super) fn number(&self, _request: &(impl Attributes + ?Sized), _path: &str) -> Option<i64> {
        match *self {}
    }

    pub(super) fn reads_path(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_secret(&self) -> bool {
        match *self {}
    }
}

pub(super) enum CompiledOver {}

impl CompiledOver {
    pub(super) fn new(text: &str, _purpose: Purpose) -> Result<Self, ExpressionError> {
        match Compiled::new(text)? {}
    }

    pub(super) fn condition(&self, _context: &OfLimit<'_>) -> Option<bool> {
        match *self {}
    }

    pub(super) fn text(&self, _context: &OfLimit<'_>) -> Option<String> {
        match *self {}
    }

    pub(super) fn looks_at(&self) -> Option<&[usize]> {
        match *self {}
    }
}

/// What no expression is computed in.
pub(crate) struct Context<'c>(std::marker::PhantomData<&'c ()>);

/// The same for one limit.
pub(crate) struct OfLimit<'c>(std::marker::PhantomData<&'c ()>);

impl<'c> Context<'c> {
    pub(crate) const fn of_descriptors(_descriptors: &'c [&'c [(&'c str, &'c str)]]) -> Self {
        Self(std::marker::PhantomData)
    }

    pub(crate) const fn of_limit(&'c self, _name: Option<&'c str>, _id: Option<&'c str>) -> OfLimit<'c> {
        OfLimit(self.0)
    }
}
