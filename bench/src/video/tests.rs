use super::*;

fn coded(bytes: u64, psnr_db: f64, cpu_ms: f64) -> Coded {
    Coded { bytes, psnr_db, cpu_ms }
}

fn report() -> Report {
    let qps = [(20, 800_000, 45.0), (25, 400_000, 41.0), (30, 200_000, 37.0), (35, 100_000, 33.0)];
    let row = |(qp, bytes, psnr): (u32, u64, f64)| QpRow {
        qp,
        ours: coded(bytes, psnr, 2.0),
        x264: Some(coded(2 * bytes, psnr, 1.0)),
    };
    Report {
        load: [1.0, 2.0],
        dev_build: true,
        films: vec![FilmRow {
            film: "bunny".into(),
            preset: "fast".into(),
            width: 64,
            height: 48,
            frames: 10,
            qps: qps.map(row).to_vec(),
            bd_rate_percent: Some(-50.0),
            speed: Some(0.5),
        }],
        jpeg: vec![
            JpegRow { encoder: "ours".into(), coded: coded(9, 40.0, 2.0), speed: 1.0 },
            JpegRow { encoder: "peer".into(), coded: coded(9, 40.0, 6.0), speed: 3.0 },
        ],
        pipelines: vec![PipelineRow {
            film: "bunny".into(),
            preset: "fast".into(),
            frames: 10,
            ours_cpu_ms: 5.0,
            peer: "FFmpeg".into(),
            peer_cpu_ms: None,
            speed: None,
        }],
    }
}

#[track_caller]
fn check_line(table: &str, begins: &str, words: &[&str]) {
    let line = table.lines().find(|line| line.trim().starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("no {begins} in\n{table}"));
    for word in words {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

#[test]
fn each_figure_stands_beside_its_goal() {
    let table = table(&report());
    check_line(&table, "BD-rate, bunny, fast", &["-50.0 %", "<= +15 %", "yes"]);
    check_line(&table, "H.264 per core, bunny, fast", &["0.50 x", ">= 1.0 x", "no"]);
    check_line(&table, "MJPEG beside peer", &["3.00 x", ">= 1.0 x", "yes"]);
    check_line(
        &table,
        "decode, motion, text, encode, bunny, fast, beside FFmpeg",
        &["-", ">= 2.0 x"],
    );
    check_line(&table, "bunny 64x48", &["fast", "80.0 kB", "45.00 dB", "160.0 kB", "0.50 x"]);
    assert!(table.contains("dev build"), "{table}");
}

#[test]
fn medians_are_in_the_middle() {
    assert_eq!(median(vec![]), None);
    assert_eq!(median(vec![3.0]), Some(3.0));
    assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
}

#[test]
fn times_of_ffmpeg_are_read() {
    let said = "frame= 1\nbench: utime=1.621s stime=0.035s rtime=3.863s\nbench: maxrss=8kB\n";
    assert_eq!(peers::cpu_of(said), Some(Duration::from_millis(1656)));
    for bad in ["", "bench: maxrss=8kB", "bench: utime=", "bench: utime=xs stime=0.1s"] {
        assert_eq!(peers::cpu_of(bad), None, "{bad}");
    }
    assert_eq!(peers::cpu_of("bench: utime=-1s stime=0.1s rtime=0s"), None);
}

#[test]
fn psnr_is_that_of_the_formula() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    near(pictures::psnr_db(&[10, 20], &[10, 20]), 100.0);
    near(pictures::psnr_db(&[0, 0], &[255, 255]), 0.0);
    near(pictures::psnr_db(&[10, 20, 30, 40], &[11, 19, 31, 39]), 20.0 * 255f64.log10());
}

#[tokio::test]
async fn a_short_film_is_measured_whole() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let film = tools.join("clips/carphone_pristine.mp4");
    if !film.exists() {
        aloud::skipped!("no clip at {}; install it with ./tools.sh test", film.display());
        return;
    }
    let options = Options { inputs: vec![film], frames: 6, rounds: 1 };
    let report = run(&options, &tools).await.unwrap();
    for row in &report.films {
        assert_eq!((row.width, row.height, row.frames, row.qps.len()), (176, 144, 6, 4));
        let falls = |key: fn(&Coded) -> f64| {
            row.qps.windows(2).all(|pair| key(&pair[0].ours) > key(&pair[1].ours))
        };
        assert!(falls(|c| c.bytes as f64) && falls(|c| c.psnr_db), "{row:?}");
        assert!(row.qps.iter().all(|row| row.ours.psnr_db > 25.0), "{row:?}");
    }
    let presets: Vec<&str> = report.films.iter().map(|row| row.preset.as_str()).collect();
    assert_eq!(presets, Preset::NAMES);
    assert!(report.jpeg[0].coded.psnr_db > 30.0, "{:?}", report.jpeg);
    assert_eq!(report.pipelines.len(), 2 * Preset::ALL.len());
    assert!(report.pipelines.iter().all(|row| row.frames == 6));
    if peers::has_ffmpeg() {
        assert!(report.films.iter().all(|row| row.bd_rate_percent.is_some()), "{report:?}");
        assert!(report.jpeg.len() > 1 && report.jpeg[1].coded.psnr_db > 30.0, "{:?}", report.jpeg);
    }
    let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(back.films.len(), Preset::ALL.len());
}

#[tokio::test]
async fn what_cannot_be_measured_is_named() {
    let nowhere = Path::new("/nowhere");
    let options = Options { inputs: vec![], frames: 1, rounds: 1 };
    let error = run(&options, nowhere).await.unwrap_err().to_string();
    assert_eq!(error, "no films in /nowhere: run ./tools.sh demo, or give --input");
    let options = Options { inputs: vec!["/nowhere/a.mp4".into()], ..options };
    let error = run(&options, nowhere).await.unwrap_err().to_string();
    assert!(error.starts_with("video /nowhere/a.mp4: cannot be opened"), "{error}");
    let error = run(&Options { frames: 0, ..options }, nowhere).await.unwrap_err().to_string();
    assert_eq!(error, "--frames and --rounds must be 1 or more");
}
