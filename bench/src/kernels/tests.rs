use super::*;

fn quick(device: Option<&str>, sizes: &[(u32, u32)]) -> Options {
    Options {
        device: device.map(str::to_string),
        sizes: sizes.to_vec(),
        budget_ms: 0,
        ..Options::default()
    }
}

/// Where no others are.
fn alone(options: &Options) -> Result<Report, Error> {
    run(options, Path::new("/no/such/tools"))
}

#[test]
fn every_kernel_is_measured_on_every_device() {
    let report = alone(&quick(None, &[(64, 48), (33, 17)])).unwrap();
    assert_eq!(report.rows.len(), 2 * road::entries().count() * report.devices.len());
    assert!(report.rows.iter().all(|row| row.median_us > 0.0 && row.gb_per_s > 0.0));
    assert!(report.memory_gb_per_s > 0.0);
    let table = table(&report);
    for entry in road::entries() {
        assert!(table.contains(entry.kernel.stem), "{table}");
    }
    let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(back.rows.len(), report.rows.len());
}

#[test]
fn one_device_can_be_chosen() {
    let report = alone(&quick(Some("cpu0"), &[(64, 48)])).unwrap();
    assert!(report.rows.iter().all(|row| row.device == "cpu0"));
    let error = alone(&quick(Some("cpu9"), &[(64, 48)])).unwrap_err();
    assert!(error.to_string().starts_with("no device \"cpu9\" here: use one of cpu0"), "{error}");
}

#[test]
fn impossible_sizes_are_refused() {
    let error = alone(&quick(None, &[(0, 48)])).unwrap_err();
    assert_eq!(error.to_string(), "size 0 x 48: each side must be 1 to 16384");
}

#[test]
fn a_plane_counts_what_is_read_and_written() {
    let cases = cases(1280, 720);
    let bytes = |stem: &str| cases.iter().find(|c| c.entry.kernel.stem == stem).unwrap().bytes;
    assert_eq!(bytes("gray"), 2 * 1280 * 720);
    assert_eq!(bytes("absdiff"), 3 * 1280 * 720);
    assert_eq!(bytes("half_size"), 1280 * 720 * 5 / 4);
}

#[test]
fn sizes_are_read() {
    assert_eq!(parse_size("1280x720"), Ok((1280, 720)));
    assert_eq!(["1080p", "4K"].map(parse_size), [Ok((1920, 1080)), Ok((3840, 2160))]);
    for bad in ["", "1280", "x", "12x-1", "1280x720x3", "5k"] {
        assert!(parse_size(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_page_has_a_bar_for_each_row() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("out.html");
    let options = Options { html: Some(page.clone()), ..quick(Some("cpu0"), &[(64, 48)]) };
    let mut report = alone(&options).unwrap();
    let written = std::fs::read_to_string(page).unwrap();
    assert_eq!(written, html::page(&report));
    let operation = |op: &str, beside: &[(&str, f64)]| operations::OpRow {
        op: op.to_string(),
        width: 64,
        height: 48,
        ours_us: 1.0,
        beside: beside
            .iter()
            .map(|(peer, ratio)| {
                let (peer, us, ratio) = (peer.to_string(), *ratio, *ratio);
                operations::Beside { peer, us, ratio }
            })
            .collect(),
    };
    let slow = operation("slow", &[("OpenCV", 0.5), ("yuv", 3.0)]);
    report.operations = vec![operation("fast <b>", &[("OpenCV", 2.0)]), slow];
    report.chains = vec![chains::ChainRow {
        pipeline: "gray | absdiff".to_string(),
        device: "cpu0".to_string(),
        width: 64,
        height: 48,
        commands: [2, 1],
        one_by_one_us: 3.0,
        chained_us: 1.0,
        ratio: 3.0,
    }];
    let page = html::page(&report);
    assert_eq!(page.matches("<rect").count(), report.rows.len() + 4);
    assert!(page.contains("3.00 x (1 us)"), "{page}");
    assert!(page.contains("fast &lt;b&gt;") && page.contains("0.50 x"), "{page}");
    assert!(page.contains("Times as fast as yuv") && !page.contains("FFmpeg"), "{page}");
    let table = table(&report);
    let line = |name: &str| table.lines().find(|line| line.contains(name)).unwrap().to_string();
    assert!(line("operation").contains("OpenCV") && line("operation").contains("yuv"), "{table}");
    assert_eq!(line("fast <b>").matches(" x ").count(), 1, "{table}");
    let nowhere = Options { html: Some(folder.path().join("no/out.html")), ..options };
    let error = alone(&nowhere).unwrap_err().to_string();
    assert!(error.contains("out.html: "), "{error}");
}
