use super::*;

fn filled(memory: &Arc<FrameMemory>, bytes: usize, value: u8) -> Bytes {
    let fill = |to: &mut [u8]| {
        to.fill(value);
        Ok::<(), ()>(())
    };
    memory.filled(bytes, fill).expect("it is filled")
}

#[test]
fn memory_is_used_again_only_when_nobody_looks_at_it() {
    let memory = FrameMemory::new();
    let first = filled(&memory, 100, 1);
    let (place, part) = (first.as_ptr(), first.slice(10..20));
    drop(first);
    let second = filled(&memory, 100, 2);
    assert_ne!(second.as_ptr(), place, "a part of the first is still looked at");
    assert_eq!(part[..], [1; 10]);
    drop(part);
    let third = filled(&memory, 100, 3);
    assert_eq!(third.as_ptr(), place);
    assert_eq!((&second[..], &third[..]), (&[2; 100][..], &[3; 100][..]));
}

#[test]
fn what_waits_is_bounded_and_of_one_size() {
    let memory = FrameMemory::new();
    let many: Vec<Bytes> = (0..20).map(|n| filled(&memory, 64, n)).collect();
    drop(many);
    assert_eq!(memory.waiting().len(), WAITING_MAX);
    drop(filled(&memory, 65, 0));
    assert_eq!(memory.waiting().iter().map(Vec::len).collect::<Vec<_>>(), [65]);
    let large: Vec<Bytes> = (0..3).map(|n| filled(&memory, 60 << 20, n)).collect();
    drop(large);
    assert_eq!(memory.waiting().len(), 2, "three are more than may wait");
}

#[test]
fn memory_that_is_not_filled_is_lent_to_nobody() {
    let memory = FrameMemory::new();
    assert_eq!(memory.filled(10, |_| Err("no")), Err("no"));
}
