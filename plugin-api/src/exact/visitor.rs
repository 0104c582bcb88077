//! The visitor between a type and its deserializer, which passes the check on to each value inside.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::fitting::Members;
use super::{Exact, Holds, Numbers};

/// A visitor, a seed, or an access to values inside. Each of those values is checked.
pub(crate) struct Checked<'n, T> {
    inner: T,
    numbers: &'n Numbers<'n>,
    holds: Holds,
}

impl<'n, T> Checked<'n, T> {
    #[inline]
    pub(crate) fn new(inner: T, numbers: &'n Numbers<'n>, holds: Holds) -> Self {
        Checked {
            inner,
            numbers,
            holds,
        }
    }

    /// Wraps a value that accepts any number.
    #[inline]
    pub(crate) fn inside<U>(inner: U, numbers: &'n Numbers<'n>) -> Checked<'n, U> {
        Checked::new(inner, numbers, Holds::Integers)
    }
}

macro_rules! handed_on {
    ($($method:ident($of:ty);)*) => {
        $(#[inline]
        fn $method<E: Error>(self, value: $of) -> Result<T::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, T: Visitor<'de>> Visitor<'de> for Checked<'_, T> {
    type Value = T::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(f)
    }

    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<T::Value, E> {
        match self.holds.holds(value) {
            true => self.inner.visit_u64(value),
            false => Err(E::custom(self.holds.refuse(&value.to_string()))),
        }
    }

    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<T::Value, E> {
        match self.holds.holds(value.unsigned_abs()) {
            true => self.inner.visit_i64(value),
            false => Err(E::custom(self.holds.refuse(&value.to_string()))),
        }
    }

    #[inline]
    fn visit_f64<E: Error>(self, value: f64) -> Result<T::Value, E> {
        match self.numbers.check(value, self.holds) {
            Ok(()) => self.inner.visit_f64(value),
            Err(text) => Err(E::custom(text)),
        }
    }

    handed_on! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u128(u128);
        visit_f32(f32);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<T::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<T::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<T::Value, D::Error> {
        self.inner.visit_some(Exact::new(value, self.numbers))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<T::Value, D::Error> {
        let value = Exact::new(value, self.numbers);
        self.inner.visit_newtype_struct(value)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T::Value, A::Error> {
        self.inner.visit_seq(Self::inside(list, self.numbers))
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T::Value, A::Error> {
        self.inner.visit_map(Self::inside(map, self.numbers))
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, value: A) -> Result<T::Value, A::Error> {
        self.inner.visit_enum(Self::inside(value, self.numbers))
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Checked<'_, T> {
    type Value = T::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Exact::new(value, self.numbers))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Checked<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let seed = Self::inside(seed, self.numbers);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Checked<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        // Not checked: a key is a string, and the integer in it has one form. With `1.0` as well, two keys of an object would
        // be one.
        self.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Self::inside(seed, self.numbers))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'n, A: EnumAccess<'de>> EnumAccess<'de> for Checked<'n, A> {
    type Error = A::Error;
    type Variant = Checked<'n, A::Variant>;

    #[inline]
    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self::Variant), A::Error> {
        let seed = Self::inside(seed, self.numbers);
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Self::inside(variant, self.numbers)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Checked<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        let seed = Self::inside(seed, self.numbers);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = Self::inside(visitor, self.numbers);
        self.inner.tuple_variant(length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = Self::inside(Members(visitor), self.numbers);
        self.inner.struct_variant(members, visitor)
    }
}
