//! JSON as it is meant: an object is written as one, and `4.0` is a whole number.
//!
//! What is derived by serde would also take a list for an object, its items for the fields in order, and would take no whole
//! number that is written with a point. For fields, by `#[serde(deserialize_with = "…")]`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// An object, and never a list.
#[derive(Debug)]
struct Object<T>(T);

/// A whole number of so many bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<T>(pub(super) T);

/// Reads an object.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

/// Reads a list of objects.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// The same, or null for an empty list.
pub(super) fn objects_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?;
    Ok(objects.into_iter().flatten().map(|object| object.0).collect())
}

/// Reads an object, or null.
pub(super) fn object_or_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(object.map(|object| object.0))
}

/// Reads a whole number.
pub(super) fn whole<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    Whole<T>: Deserialize<'de>,
{
    Whole::deserialize(deserializer).map(|whole| whole.0)
}

/// Reads a whole number, or null.
pub(super) fn whole_or_null<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    Whole<T>: Deserialize<'de>,
{
    let whole = Option::<Whole<T>>::deserialize(deserializer)?;
    Ok(whole.map(|whole| whole.0))
}

/// Reads what null stands for the default of.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<T>(PhantomData<T>);

        impl<T: TryFrom<i128>> Number<T> {
            fn of<E: Error>(
                self,
                number: impl Into<i128>,
                unexpected: Unexpected<'_>,
            ) -> Result<Whole<T>, E> {
                T::try_from(number.into()).map(Whole).map_err(|_| E::invalid_value(unexpected, &self))
            }
        }

        impl<T: TryFrom<i128>> Visitor<'_> for Number<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::any::type_name::<T>())
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole<T>, E> {
                self.of(number, Unexpected::Unsigned(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole<T>, E> {
                self.of(number, Unexpected::Signed(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole<T>, E> {
                if number.fract() != 0.0 {
                    return Err(E::invalid_type(Unexpected::Float(number), &self));
                }
                // What is too large becomes the largest, which is too large for every kind of number here.
                #[allow(clippy::cast_possible_truncation)]
                let whole = number as i128;
                self.of(whole, Unexpected::Float(number))
            }
        }

        deserializer.deserialize_any(Number(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_str;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        #[serde(deserialize_with = "whole_or_null")]
        cost: Option<u32>,
        #[serde(deserialize_with = "objects")]
        parts: Vec<Sample>,
    }

    #[test]
    fn whole_numbers_may_have_a_point() {
        let cost = |text: &str| from_str::<Sample>(&format!("{{\"cost\":{text}}}")).map(|sample| sample.cost);
        assert_eq!(cost("5.0").unwrap(), Some(5));
        assert_eq!(cost("1e3").unwrap(), Some(1_000));
        assert_eq!(cost("-0.0").unwrap(), Some(0));
        assert_eq!(cost("4294967295").unwrap(), Some(u32::MAX));
        assert_eq!(cost("null").unwrap(), None);
        for wrong in ["1.5", "-1", "-1.0", "4294967296", "1e10", "1e300", "\"5\"", "true", "[5]"] {
            let error = cost(wrong).unwrap_err().to_string();
            assert!(error.contains("expected u32") && error.contains("column"), "{error}");
        }
        assert!(from_str::<Whole<u64>>("18446744073709551616.0").is_err());
    }

    #[test]
    fn a_list_is_no_object() {
        let sample: Sample = from_str(r#"{"parts":[{"cost":1},{}]}"#).unwrap();
        assert_eq!(sample.parts.len(), 2);
        let error = from_str::<Sample>(r#"{"parts":[[1,[]]]}"#).unwrap_err().to_string();
        assert!(error.starts_with("invalid type: sequence, expected an object at line 1"), "{error}");
        assert!(from_str::<Sample>(r#"{"parts":{}}"#).is_err());
    }
}
