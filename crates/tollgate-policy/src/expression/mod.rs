//! Conditions, keys and costs that are written as expressions.

#[cfg(feature = "expressions")]
mod compiled;
#[cfg(feature = "expressions")]
mod over;
#[cfg(feature = "expressions")]
mod uses;
#[cfg(not(feature = "expressions"))]
mod without;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "expressions")]
use self::compiled::Compiled;
#[cfg(feature = "expressions")]
use self::over::CompiledOver;
#[cfg(feature = "expressions")]
pub(crate) use self::over::{Context, OfLimit};
#[cfg(not(feature = "expressions"))]
use self::without::{Compiled, CompiledOver};
#[cfg(not(feature = "expressions"))]
pub(crate) use self::without::{Context, OfLimit};
use crate::attribute::Attributes;

/// An expression over a request's attributes, in the Common Expression Language (CEL).
///
/// It is compiled once, from the configuration only, and bounded in length, depth and steps: see the policy reference.
///
/// ```
/// # #[cfg(feature = "expressions")] {
/// use tollgate_policy::{Expression, Request};
///
/// let big_reports = Expression::parse(r#"path.startsWith("/reports/") && int(query["months"]) > 12"#)?;
/// assert!(big_reports.is_true(&Request::new("GET", "/reports/sales?months=36")));
/// assert!(!big_reports.is_true(&Request::new("GET", "/reports/sales")));
/// # }
/// # Ok::<(), tollgate_policy::ExpressionError>(())
/// ```
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    compiled: Arc<Compiled>,
}

/// Why a text is no expression that a policy can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(*.column))]
pub struct ExpressionError {
    /// The character that it is about, from 1, if it is about one.
    column: Option<usize>,
    message: String,
}

fn place(column: Option<usize>) -> String {
    column.map_or_else(String::new, |column| format!("at character {column} of the expression: "))
}

/// What an expression is for, and so what it must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `true` or `false`.
    Condition,
    /// A text, or what can be written as one.
    Key,
    /// A whole number.
    Cost,
}

impl ExpressionError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { column: None, message: message.into() }
    }

    #[cfg(feature = "expressions")]
    pub(crate) fn at(column: Option<usize>, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it cannot be read, is too long or too deep, or asks for what no request has.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Ok(Self { text: text.into(), compiled: Arc::new(Compiled::new(text)?) })
    }

    /// Reads an expression for a purpose.
    pub(crate) fn parse_for(text: &str, purpose: Purpose) -> Result<Self, ExpressionError> {
        let expression = Self::parse(text)?;
        expression.compiled.check(purpose)?;
        Ok(expression)
    }

    /// It as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is true of a request. What cannot be computed, as the request lacks something, is not.
    pub fn is_true(&self, request: &(impl Attributes + ?Sized)) -> bool {
        self.holds(request, &crate::path::normalized(request.path()))
    }

    /// The same for who has the path in its normal spelling already.
    pub(crate) fn holds(&self, request: &(impl Attributes + ?Sized), path: &str) -> bool {
        self.compiled.condition(request, path) == Some(true)
    }

    /// What it gives, as a text that is not empty; `None` if it cannot be computed.
    pub(crate) fn text(&self, request: &(impl Attributes + ?Sized), path: &str) -> Option<String> {
        self.compiled.text(request, path).filter(|text| !text.is_empty())
    }

    /// What it gives, as a cost; `None` if that is no whole number from 0 on. What is too large for a cost is the largest.
    pub(crate) fn cost(&self, request: &(impl Attributes + ?Sized), path: &str) -> Option<u32> {
        let cost = self.compiled.number(request, path).filter(|cost| *cost >= 0)?;
        Some(u32::try_from(cost).unwrap_or(u32::MAX))
    }

    /// Whether it depends on the path of a request.
    pub(crate) fn reads_path(&self) -> bool {
        self.compiled.reads_path()
    }

    /// Whether it looks at what lets its holder in somewhere.
    pub(crate) fn is_secret(&self) -> bool {
        self.compiled.is_secret()
    }
}

/// An expression over the descriptors of a request, and over the limit that it is a part of: `descriptors[0]["user"]`,
/// `limit.name`. It is bounded as an [`Expression`] is.
#[derive(Clone)]
pub(crate) struct DescriptorExpression {
    text: Arc<str>,
    compiled: Arc<CompiledOver>,
}

impl DescriptorExpression {
    /// Reads an expression for a purpose, which is a condition or a key.
    ///
    /// # Errors
    /// If it cannot be read, is too long or too deep, asks for what there is not, or never gives what is wanted.
    pub(crate) fn parse_for(text: &str, purpose: Purpose) -> Result<Self, ExpressionError> {
        Ok(Self { text: text.into(), compiled: Arc::new(CompiledOver::new(text, purpose)?) })
    }

    /// It as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is true. What cannot be computed is not.
    pub(crate) fn holds(&self, context: &OfLimit<'_>) -> bool {
        self.compiled.condition(context) == Some(true)
    }

    /// What it gives, as a text; `None` if it cannot be computed.
    pub(crate) fn value(&self, context: &OfLimit<'_>) -> Option<String> {
        self.compiled.text(context)
    }

    /// The places of the descriptors that it looks at; `None` if those are not known before.
    pub(crate) fn looks_at(&self) -> Option<&[usize]> {
        self.compiled.looks_at()
    }
}

impl fmt::Debug for DescriptorExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DescriptorExpression").field(&self.text).finish()
    }
}

/// Expressions of the same text do the same.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
