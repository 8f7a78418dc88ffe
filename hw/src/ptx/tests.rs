use super::*;
use crate::conformance;

#[test]
fn conforms() {
    match device(&Config { nvrtc_dir: tools(), ..Config::default() }) {
        Some(device) => conformance::check(&device),
        None => eprintln!("skipped: no NVRTC; install it with ./tools.sh test"),
    }
}

fn tools() -> Option<std::path::PathBuf> {
    let default = Config::default().nvrtc_dir;
    let beside =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/nvrtc/nvidia/cu13/lib");
    default.or(Some(beside))
}
