use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::device::{Error, Kind};

fn info() -> DeviceInfo {
    DeviceInfo {
        id: "opencl0".to_string(),
        kind: Kind::OpenCl,
        name: "a fake".to_string(),
        driver: String::new(),
        memory_bytes: 1 << 20,
        compute_units: 1,
        on_cpu: false,
        circuits: Vec::new(),
    }
}

/// Allocates; memory is the number of the call that made it.
fn alloc(pool: &mut Pool<usize>, made: &mut Vec<usize>, bytes: usize) -> BufferId {
    let id = pool.alloc(&info(), bytes, |capacity| {
        made.push(capacity);
        Ok(made.len())
    });
    id.unwrap()
}

#[test]
fn freed_memory_of_the_same_size_is_used_again() {
    let (mut pool, mut made) = (Pool::new(3 * GRAIN_BYTES), Vec::new());
    let first = alloc(&mut pool, &mut made, 10);
    pool.free(&info(), first).unwrap();
    let second = alloc(&mut pool, &mut made, 4000);
    assert_eq!(made, [GRAIN_BYTES], "both fit one grain");
    assert_ne!(first, second, "ids are not given twice");
    assert_eq!((pool.bytes_of(first), pool.bytes_of(second)), (None, Some(4000)));
    let larger = alloc(&mut pool, &mut made, GRAIN_BYTES + 1);
    assert_eq!(made, [GRAIN_BYTES, 2 * GRAIN_BYTES]);
    assert_eq!(pool.held(&info(), larger).unwrap().memory, 2);
}

#[test]
fn what_waits_is_bounded() {
    let (mut pool, mut made) = (Pool::new(3 * GRAIN_BYTES), Vec::new());
    let ids: Vec<BufferId> = (0..5).map(|_| alloc(&mut pool, &mut made, 1)).collect();
    for id in ids {
        pool.free(&info(), id).unwrap();
        assert!(pool.free.len() <= 3);
    }
    let huge = alloc(&mut pool, &mut made, 4 * GRAIN_BYTES);
    pool.free(&info(), huge).unwrap();
    assert!(pool.free.is_empty(), "all gave way, and it does not fit either");
}

/// A device with room for three grains.
#[test]
fn what_waits_gives_way_where_memory_is_short() {
    let (mut pool, held) = (Pool::new(3 * GRAIN_BYTES), Rc::new(Cell::new(0)));
    struct Memory(usize, Rc<Cell<usize>>);
    impl Drop for Memory {
        fn drop(&mut self) {
            self.1.set(self.1.get() - self.0);
        }
    }
    let alloc = |pool: &mut Pool<Memory>, grains: usize| {
        pool.alloc(&info(), grains * GRAIN_BYTES, |capacity| {
            if held.get() + capacity > 3 * GRAIN_BYTES {
                return Err(Error::OutOfMemory { device: String::new(), bytes: capacity });
            }
            held.set(held.get() + capacity);
            Ok(Memory(capacity, held.clone()))
        })
    };
    let small = [(); 2].map(|()| alloc(&mut pool, 1).unwrap());
    small.into_iter().for_each(|id| pool.free(&info(), id).unwrap());
    let large = alloc(&mut pool, 3).unwrap();
    let none = alloc(&mut pool, 1);
    assert!(matches!(none, Err(Error::OutOfMemory { .. })), "there is nothing left to give");
    pool.free(&info(), large).unwrap();
    alloc(&mut pool, 2).unwrap();
}

/// So that whoever watches over memory sees where each buffer ends.
#[test]
fn where_nothing_waits_buffers_are_as_large_as_was_asked_for() {
    let (mut pool, mut made) = (Pool::new(0), Vec::new());
    for bytes in [1, 100, GRAIN_BYTES + 1] {
        let id = alloc(&mut pool, &mut made, bytes);
        pool.free(&info(), id).unwrap();
    }
    assert_eq!(made, [1, 100, GRAIN_BYTES + 1]);
}

#[test]
fn unknown_and_impossible_buffers_are_refused() {
    let mut pool: Pool<usize> = Pool::new(GRAIN_BYTES);
    let unknown = pool.free(&info(), BufferId(u64::MAX)).unwrap_err();
    assert!(matches!(unknown, Error::BadBuffer { .. }), "{unknown}");
    let none = pool.alloc(&info(), 0, |_| Ok(1)).unwrap_err();
    assert!(matches!(none, Error::OutOfMemory { .. }), "{none}");
    let failed = pool.alloc(&info(), 1, |_| Err(unknown_buffer(&info(), BufferId(9))));
    assert!(failed.is_err());
    let id = alloc(&mut pool, &mut Vec::new(), 1);
    let held = pool.take(&info(), id).unwrap();
    assert!(pool.held(&info(), id).is_err());
    pool.put_back(id, held);
    assert!(pool.held_mut(&info(), id).is_ok());
}
