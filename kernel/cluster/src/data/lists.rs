//! Lists gathered from the results of many tasks, without a way through bytes where the type says how.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Once, OnceLock, PoisonError, RwLock},
};

use crate::data::value::{Stored, TaskValue, with_numbers};

pub(crate) type Maker = fn(Vec<Stored>) -> Result<Box<dyn Any>, String>;

type Makers = RwLock<HashMap<TypeId, Maker>>;

pub(crate) fn makers() -> &'static Makers {
    static MAKERS: OnceLock<Makers> = OnceLock::new();
    static NUMBERS: Once = Once::new();
    let makers = MAKERS.get_or_init(Makers::default);
    // Not within the line above: registering asks for the makers itself.
    NUMBERS.call_once(|| add_numbers(&mut makers.write().unwrap_or_else(PoisonError::into_inner)));
    makers
}

macro_rules! lists_of_numbers {
    ($($number:ty)*) => {
        fn add_numbers(makers: &mut HashMap<TypeId, Maker>) { $(
            makers.insert(TypeId::of::<Vec<$number>>(), maker::<$number>());
            makers.insert(TypeId::of::<Vec<Vec<$number>>>(), maker::<Vec<$number>>());
        )* }
    };
}
with_numbers!(lists_of_numbers);

/// Lets `Vec<T>` be gathered from results of type `T` without turning those into bytes.
pub fn register_list<T: TaskValue + Clone>() {
    makers()
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(TypeId::of::<Vec<T>>(), maker::<T>());
}

fn maker<T: TaskValue + Clone>() -> Maker {
    |stored| {
        let items: Result<Vec<T>, String> = stored.into_iter().map(Stored::take).collect();
        Ok(Box::new(items?))
    }
}
