//! Operators between delayed values, and between those and plain ones: `a + b` is a call like any other.

use std::{iter, ops};

use crate::{api::delayed::Delayed, data::value::TaskValue};

macro_rules! operators {
    ($($trait:ident $method:ident)*) => { $(
        fn $method<A: ops::$trait<B>, B>(a: A, b: B) -> A::Output {
            ops::$trait::$method(a, b)
        }

        impl<A, B> ops::$trait<Delayed<B>> for Delayed<A>
        where A: TaskValue + Clone + ops::$trait<B>, B: TaskValue + Clone, A::Output: TaskValue
        {
            type Output = Delayed<A::Output>;
            fn $method(self, other: Delayed<B>) -> Self::Output {
                Delayed::call($method::<A, B>, (self, other))
            }
        }

        impl<A, B> ops::$trait<&Delayed<B>> for &Delayed<A>
        where A: TaskValue + Clone + ops::$trait<B>, B: TaskValue + Clone, A::Output: TaskValue
        {
            type Output = Delayed<A::Output>;
            fn $method(self, other: &Delayed<B>) -> Self::Output {
                Delayed::call($method::<A, B>, (self, other))
            }
        }

        impl<A> ops::$trait<A> for Delayed<A>
        where A: TaskValue + Clone + ops::$trait<A>, A::Output: TaskValue
        {
            type Output = Delayed<A::Output>;
            fn $method(self, other: A) -> Self::Output {
                Delayed::call($method::<A, A>, (self, other))
            }
        }

        impl<A> ops::$trait<A> for &Delayed<A>
        where A: TaskValue + Clone + ops::$trait<A>, A::Output: TaskValue
        {
            type Output = Delayed<A::Output>;
            fn $method(self, other: A) -> Self::Output {
                Delayed::call($method::<A, A>, (self, other))
            }
        }

        operators!(left $trait $method i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 usize isize f32 f64);
    )* };
    (left $trait:ident $method:ident $($number:ty)*) => { $(
        impl ops::$trait<Delayed<$number>> for $number {
            type Output = Delayed<$number>;
            fn $method(self, other: Delayed<$number>) -> Self::Output {
                Delayed::call($method::<$number, $number>, (self, other))
            }
        }

        impl ops::$trait<&Delayed<$number>> for $number {
            type Output = Delayed<$number>;
            fn $method(self, other: &Delayed<$number>) -> Self::Output {
                Delayed::call($method::<$number, $number>, (self, other))
            }
        }
    )* };
}

operators!(Add add Sub sub Mul mul Div div Rem rem);

fn neg<A: ops::Neg>(a: A) -> A::Output {
    -a
}

impl<A> ops::Neg for Delayed<A>
where
    A: TaskValue + Clone + ops::Neg,
    A::Output: TaskValue,
{
    type Output = Delayed<A::Output>;

    fn neg(self) -> Self::Output {
        Delayed::call(neg::<A>, self)
    }
}

/// So many values are taken together by one task: a sum of many is a tree, whose levels run side by side.
const AT_ONCE: usize = 16;

macro_rules! folds {
    ($($trait:ident $method:ident)*) => { $(
        fn $method<A: iter::$trait<A>>(values: Vec<A>) -> A {
            values.into_iter().$method()
        }

        impl<A: TaskValue + Clone + iter::$trait<A>> iter::$trait for Delayed<A> {
            fn $method<I: Iterator<Item = Delayed<A>>>(values: I) -> Delayed<A> {
                let mut values: Vec<Delayed<A>> = values.collect();
                while values.len() > AT_ONCE {
                    values = values.chunks(AT_ONCE).map(|some| Delayed::call($method::<A>, some)).collect();
                }
                match values.len() {
                    1 => values.remove(0),
                    _ => Delayed::call($method::<A>, values),
                }
            }
        }

        impl<'d, A: TaskValue + Clone + iter::$trait<A>> iter::$trait<&'d Delayed<A>> for Delayed<A> {
            fn $method<I: Iterator<Item = &'d Delayed<A>>>(values: I) -> Delayed<A> {
                values.cloned().$method()
            }
        }
    )* };
}

folds!(Sum sum Product product);
