use super::*;
use crate::conformance::{chained, scale_add_launch};

fn written(text: &str) -> Written {
    Written::new(Vec::new(), text)
}

fn refused() -> Result<u32> {
    let (device, kernel) = ("test0".to_string(), "k".to_string());
    Err(Error::Build { device, kernel, log: "no".to_string() })
}

#[test]
fn names_tell_texts_apart_and_stand_in_them() {
    let (a, again, b) = (written("void @(int)"), written("void @(int)"), written("void @(uint)"));
    assert_eq!(a.name, again.name);
    assert_ne!(a.name, b.name);
    assert_eq!(a.source, format!("void {}(int)", a.name));
}

#[test]
fn a_kernel_is_built_once_and_so_is_a_refusal() {
    let mut ready: Ready<u32> = Ready::new();
    let (good, bad) = (written("good @"), written("bad @"));
    for _ in 0..2 {
        ready.load(&good, || Ok(7)).unwrap();
        ready.load(&bad, refused).unwrap();
        assert_eq!(ready.function(&good), Some(&mut 7));
        assert_eq!(ready.function(&bad), None);
    }
    ready.load(&good, || panic!("built again")).unwrap();
    ready.load(&bad, || panic!("tried again")).unwrap();
    assert_eq!(ready.refusals(), [refused().unwrap_err()]);

    let other = written("other @");
    let lost = || Err(Error::Lost { device: "test0".to_string(), detail: "gone".to_string() });
    assert!(ready.load(&other, lost).is_err(), "another failure is no refusal");
    ready.load(&other, || Ok(8)).unwrap();
    assert_eq!(ready.function(&other), Some(&mut 8));
}

#[test]
fn kernels_not_used_lately_make_room() {
    let mut ready: Ready<usize> = Ready::new();
    let all: Vec<Written> = (0..3 * WRITTEN_MAX).map(|i| written(&format!("{i} @"))).collect();
    ready.load(&all[0], || Ok(0)).unwrap();
    for (i, kernel) in all.iter().enumerate().skip(1) {
        ready.load(&all[0], || panic!("what is used stays")).unwrap();
        ready.load(kernel, || Ok(i)).unwrap();
        assert_eq!(ready.function(kernel), Some(&mut i.clone()));
        assert!(ready.known.len() <= WRITTEN_MAX, "{} at {i}", ready.known.len());
    }
}

#[test]
fn only_buffers_of_the_launches_may_be_given() {
    let [a, b, c] = [0, 1, 2].map(BufferId);
    let chain = chained([a, b, c], [3, 5]);
    let size = |id: BufferId| (id.0 < 3).then_some(64);
    chain.check(size).unwrap();
    let error = chain.check(|id| (id.0 != 1).then_some(64)).unwrap_err();
    assert!(error.contains("no buffer 1"), "{error}");
    let error = chain.check(|id| Some(if id.0 == 2 { 63 } else { 64 })).unwrap_err();
    assert!(error.contains("needs 64 bytes, buffer has 63"), "{error}");

    let with = |at: usize, arg: Arg| {
        let mut other = chain.clone();
        other.args[at] = arg;
        other.check(|_| Some(64)).unwrap_err()
    };
    assert!(with(0, Arg::Buffer(BufferId(9))).contains("none of its launches'"));
    assert!(with(0, Arg::Buffer(c)).contains("used again"));
    assert!(with(0, Arg::U32(0)).contains("does not fit"));
    let mut other = chain.clone();
    other.args.pop();
    assert!(other.check(|_| Some(64)).unwrap_err().contains("4 arguments for 5 parameters"));
}

#[test]
fn the_largest_need_of_the_launches_counts() {
    let [a, b, c] = [0, 1, 2].map(BufferId);
    let mut chain = chained([a, b, c], [3, 5]);
    let crate::Command::Launch(more) = scale_add_launch(a, b, 99, 1) else { unreachable!() };
    chain.launches.push(more);
    let needed = chain.needed();
    assert_eq!([a, b, c].map(|id| needed[&id]), [99, 99, 64]);
}
