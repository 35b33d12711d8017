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
