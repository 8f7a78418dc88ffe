use std::sync::LazyLock;

use hw::xrt::{XrtDevice, discover};

use super::*;

/// Not a test: the process with the driver, when XRT's emulation is rehearsed.
#[test]
fn worker() {
    rehearsal::worker();
}

/// Not a test: the software FPGA.
#[test]
fn card() {
    rehearsal::card();
}

/// How to reach the emulated card, made ready once for all tests.
static EMULATED: LazyLock<Option<Setup>> = LazyLock::new(|| {
    rehearsed(Names { worker: "hls::tests::worker", card: "hls::tests::card" }, &[])
});

/// The emulated card with all kernels that have a form for it; `None`, said aloud, without XRT.
pub(crate) fn device() -> Option<XrtDevice> {
    let mut found = discover(EMULATED.as_ref()?);
    assert_eq!(found.len(), 1, "XRT is here, so there is a card");
    found.pop()
}

/// All files of C++ in a folder and those below it.
fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "cpp") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_source_is_listed_with_its_kernels() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in sources_below(&folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        let named = text.split("extern \"C\" void ").skip(1);
        let stems: Vec<String> =
            named.map(|rest| rest.split('(').next().unwrap().to_string()).collect();
        for kernel in crate::entries().map(|e| e.kernel).filter(|k| stems.contains(&k.stem.into()))
        {
            check_interface(&text, kernel);
        }
        found.push((path.strip_prefix(&folder).unwrap().to_str().unwrap().to_string(), stems));
    }
    found.sort();
    let listed: Vec<(String, Vec<String>)> = SOURCES
        .iter()
        .map(|(name, stems)| (name.to_string(), stems.iter().map(|s| s.to_string()).collect()))
        .collect();
    assert_eq!(found, listed);
    let stems = SOURCES.iter().map(|(_, stems)| stems.len()).sum::<usize>();
    assert_eq!(kernels().count(), stems, "each is a kernel of this crate");
    assert_eq!(kernels().count(), crate::entries().count(), "each kernel has a form");
}

/// Parameters of the same names in the same order, and a port for each.
fn check_interface(text: &str, kernel: &Kernel) {
    let (_, after) = text.split_once(&format!("void {}(", kernel.stem)).unwrap();
    let (list, body) = after.split_once(')').unwrap();
    let names: Vec<&str> =
        list.split(',').map(|p| p.rsplit([' ', '*']).next().unwrap().trim()).collect();
    let wanted: Vec<&str> = kernel.params.iter().map(|param| param.name()).collect();
    assert_eq!(names, wanted, "parameters of {}", kernel.stem);
    let body = body.split("\n}").next().unwrap();
    for param in kernel.params {
        let mode = if matches!(param, hw::Param::U32(_)) { "s_axilite" } else { "m_axi" };
        let port = format!("#pragma HLS INTERFACE {mode} port = {}", param.name());
        let has_it = body.lines().any(|line| line == port || line.starts_with(&format!("{port} ")));
        assert!(has_it, "{} lacks: {port}", kernel.stem);
    }
    assert!(body.contains("s_axilite port = return"), "{}", kernel.stem);
}

/// Reading and writing rows is where words and bytes meet: every way in which rows can lie.
#[test]
fn rows_at_any_byte_leave_what_is_around_them() {
    use hw::{BufferId, Device};
    let Some(device) = device() else { return };
    for width in 1..=33_u32 {
        for gap in [0, 1, 2, 7, 8, 9] {
            let (height, src_stride, dst_stride) = (5, width + 3, width + gap);
            let from = crate::Plane { width, height, stride: src_stride };
            let data =
                crate::testing::noise(u64::from(width * 64 + gap), (src_stride * 5) as usize);
            let [src, dst] = [data.len(), (dst_stride * 5 + 40) as usize]
                .map(|bytes| device.alloc(bytes).unwrap());
            let mut expected = vec![0xA5; (dst_stride * 5 + 40) as usize];
            device.write(src, 0, &data).unwrap();
            device.write(dst, 0, &expected).unwrap();
            device.run(&[crate::gray::command(src, from, dst, dst_stride, false)]).unwrap();
            for y in 0..height as usize {
                let (to, at) = (y * dst_stride as usize, y * src_stride as usize);
                let w = width as usize;
                expected[to..to + w].copy_from_slice(&data[at..at + w]);
            }
            let mut got = vec![0; expected.len()];
            device.read(dst, 0, &mut got).unwrap();
            assert!(got == expected, "width {width}, gap {gap}");
            let ids: [BufferId; 2] = [src, dst];
            ids.iter().for_each(|id| device.free(*id).unwrap());
        }
    }
}
