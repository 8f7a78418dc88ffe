use super::metadata::{Described, image};
use super::*;
use crate::command::Param;

const PARAMS: &[Param] =
    &[Param::In("src"), Param::Out("dst"), Param::U32("width"), Param::U32("height")];

fn sample() -> Xclbin {
    let kernels = ["gray", "half_size", "absdiff"].map(|name| Described { name, params: PARAMS });
    image(&kernels, 4 << 30, vec![0x5A; 1001])
}

#[test]
fn what_is_written_is_read_again() {
    let written = sample();
    let read = Xclbin::read(&written.write()).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.section(Kind::Bitstream).unwrap(), [0x5A; 1001]);
    assert_eq!((read.memory_bytes(), read.bank()), (4 << 30, Ok(0)));
    let kernels = read.kernels().unwrap();
    let names: Vec<&str> = kernels.iter().map(|k| k.name.as_str()).collect();
    assert_eq!(names, ["gray", "half_size", "absdiff"]);
    let places = |k: &metadata::Kernel| k.arguments.iter().map(|a| a.offset).collect::<Vec<u64>>();
    assert_eq!(places(&kernels[0]), [0x10, 0x1c, 0x28, 0x30], "as HLS lays them out");
    assert_eq!(kernels[1].units, [("half_size_1".to_string(), 0x181_0000)]);
    assert!(kernels[2].takes(PARAMS));
    assert!(!kernels[2].takes(&PARAMS[..3]));
}

#[test]
fn sections_begin_at_multiples_of_eight() {
    let file = sample().write();
    for index in 0..7 {
        assert_eq!(u64_at(&file, HEADER_BYTES + ENTRY_BYTES * index + 24).unwrap() % 8, 0);
    }
}

#[test]
fn kernels_that_reach_different_memories_are_refused() {
    let mut spread = sample();
    let connections = spread.sections.iter_mut().find(|(k, _)| *k == Kind::GroupConnectivity);
    let section = &mut connections.unwrap().1;
    let last = section.len() - 4;
    section[last] = 3;
    let error = spread.bank().unwrap_err().to_string();
    assert!(error.contains("absdiff") && error.contains("connectivity.sp"), "{error}");
}

#[test]
fn an_argument_that_reaches_several_memories_may_use_the_common_one() {
    let mut wide = sample();
    let connections = wide.sections.iter_mut().find(|(k, _)| *k == Kind::GroupConnectivity);
    let section = &mut connections.unwrap().1;
    // The first argument of the first unit reaches memory 2 too, and comes first with that.
    let extra = [0u32, 0, 2].map(u32::to_le_bytes).concat();
    section.splice(4..4, extra);
    section[0] += 1;
    assert_eq!(wide.bank(), Ok(0));
}

/// Every way in takes any bytes.
fn survives(bytes: &[u8]) {
    if let Ok(read) = Xclbin::read(bytes) {
        let _ = (read.kernels(), read.bank(), read.memory_bytes());
        let held: usize = read.sections.iter().map(|(_, data)| data.len()).sum();
        assert!(held <= bytes.len());
        assert!(Xclbin::read(&read.write()).is_ok());
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = sample().write();
    for end in 0..whole.len() {
        assert!(Xclbin::read(&whole[..end]).is_err(), "cut at {end}");
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut dice = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % below
    };
    for _ in 0..20_000 {
        let mut bent = whole.clone();
        for _ in 0..1 + dice(4) {
            // The header and the table are where a byte changes most.
            let at = if dice(2) == 0 { dice(800) } else { dice(bent.len()) };
            bent[at] = [0, 1, 0x7F, 0x80, 0xFF, dice(256) as u8][dice(6)];
        }
        survives(&bent);
    }
}

#[test]
fn no_description_makes_it_panic() {
    let text = String::from_utf8(sample().section(Kind::Metadata).unwrap().to_vec()).unwrap();
    for (at, _) in text.char_indices() {
        let _ = metadata::kernels(&text.as_bytes()[..at]);
        let _ = metadata::kernels(&text.as_bytes()[at..]);
        let mut cut = text.clone();
        cut.remove(at);
        let _ = metadata::kernels(cut.as_bytes());
    }
    assert!(metadata::kernels(b"<kernel><arg/></kernel>").is_err(), "a kernel without a name");
    let many = "<kernel name=\"k\"/>".repeat(metadata::ENTRIES_MAX + 1);
    assert!(metadata::kernels(many.as_bytes()).is_err());
}

#[test]
fn sections_over_each_other_are_refused() {
    let mut file = sample().write();
    let bitstream = HEADER_BYTES + ENTRY_BYTES;
    for index in 2..7 {
        let at = HEADER_BYTES + ENTRY_BYTES * index;
        let place: Vec<u8> = file[bitstream + 24..bitstream + 40].to_vec();
        file[at + 24..at + 40].copy_from_slice(&place);
    }
    let error = Xclbin::read(&file).unwrap_err().to_string();
    assert!(error.contains("lies over another"), "{error}");
}
