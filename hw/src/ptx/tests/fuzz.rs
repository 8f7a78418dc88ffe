//! Texts of real kernels, bent at random: they run, are refused or end in a fault, and never panic.

use std::time::Duration;

use super::*;

/// What every machine has, with NVRTC or without.
const OWN: &str = "
.version 9.0
.target sm_90
.address_size 64
.const .align 4 .b8 TABLE[8] = {1, 2, 3, 4, 5, 6, 7, 8};
.shared .align 16 .b8 shared[256];
.visible .entry t(
	.param .u64 t_param_0,
	.param .u32 t_param_1
)
.maxntid 128, 1, 1
{
	.local .align 16 .b8 	__local_depot0[64];
	.reg .b64 	%SPL;
	.reg .pred 	%p<9>;
	.reg .b16 	%rs<15>;
	.reg .b32 	%r<33>;
	.reg .b64 	%rd<17>;
	mov.u64 	%SPL, __local_depot0;
	ld.param.u64 	%rd1, [t_param_0];
	cvta.to.global.u64 	%rd2, %rd1;
	mov.u32 	%r1, %tid.x;
	mul.wide.u32 	%rd3, %r1, 4;
	add.s64 	%rd4, %rd2, %rd3;
	ld.global.u32 	%r2, [%rd4];
	prmt.b32 	%r3, %r2, 0, 0x0123;
	bfe.s32 	%r4, %r3, 5, 9;
	shl.b32 	%r5, %r1, 2;
	mov.u32 	%r6, shared;
	add.s32 	%r7, %r6, %r5;
	st.shared.u32 	[%r7], %r4;
	bar.sync 	0;
	ld.shared.v2.u32 	{%r8, %r9}, [shared+8];
	shfl.sync.bfly.b32 	%r10|%p1, %r4, 1, 31, -1;
	vote.sync.ballot.b32 	%r11, %p1, -1;
	add.rz.f32 	%r12, %r10, 0f3F800000;
	cvt.rni.s32.f32 	%r13, %r12;
	st.local.u32 	[%SPL+4], %r13;
	dp4a.u32.s32 	%r14, %r8, %r9, %r13;
	lop3.b32 	%r15, %r14, %r11, %r4, 0xE8;
	setp.eq.or.s32 	%p2|%p3, %r15, 9, %p1;
	and.b32  	%r16, %r15, 3;
	brx.idx 	%r16, TARGETS;
TARGETS: .branchtargets $L0, $L1, $L2, $L0;
$L0:
	setp.lt.and.s32 	%p2|%p3, %r15, 7, %p1;
	@%p2 bra 	$L2;
$L1:
	selp.b32 	%r15, %r14, %r13, %p3;
$L2:
	st.global.u32 	[%rd4], %r15;
	ret;
}
";

/// How often each text is bent; `EDGESCALE_FUZZ_SECONDS` goes on for longer.
const TRIES: u64 = 400;

#[test]
fn bent_texts_never_panic() {
    let sane = bent_run(OWN.as_bytes(), "t");
    assert!(matches!(sane, Ran::Well), "{sane:?}");
    let mut texts = vec![("t".to_string(), OWN.as_bytes().to_vec())];
    texts.extend(real());
    let (mut well, mut refused, mut faults) = (0, 0, 0);
    let longer = std::env::var("EDGESCALE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let until = Instant::now() + Duration::from_secs(longer.unwrap_or(0));
    for seed in 1.. {
        let mut random = Random(seed);
        for (name, text) in &texts {
            match bent_run(&bend(text, &mut random), name) {
                Ran::Well => well += 1,
                Ran::Refused => refused += 1,
                Ran::Fault(_) => faults += 1,
            }
        }
        if seed >= TRIES && Instant::now() > until {
            break;
        }
    }
    println!("{} texts: {well} ran, {refused} were refused, {faults} faults", texts.len());
    assert!(well > 0 && refused > 0 && faults > 0, "all ways are taken");
}

/// What NVRTC makes of the sources of the kernels' crate, by the names of their functions.
fn real() -> Vec<(String, Vec<u8>)> {
    if device_for_tests(CRATE, cuda::GROUP_SIZE).is_none() {
        return Vec::new();
    }
    let names = ["jpeg.cu", "mog2.cl", "levels.cl", "median.cl", "regions.cl", "quality.cl"];
    let mut found = Vec::new();
    for name in names {
        let source =
            std::fs::read_to_string(format!("{CRATE}/../kernels/src/{name}")).expect("a source");
        let kernel = form("any", source.leak());
        let text = cuda::compile(&cuda::source(&kernel), cuda::GROUP_SIZE, Target::Ptx(CAPABILITY));
        let text = text.expect("it compiles");
        let module = module::parse(&text).expect("it is read");
        let names: Vec<String> = module.kernels.iter().map(|k| k.name.to_string()).collect();
        found.extend(names.into_iter().map(|name| (name, text.clone())));
    }
    found
}

#[derive(Debug)]
enum Ran {
    Well,
    Refused,
    Fault(#[allow(dead_code, reason = "shown when it surprises")] Error),
}

/// Runs a text with a buffer for each parameter of 64 bits and small numbers for the others.
fn bent_run(text: &[u8], name: &str) -> Ran {
    let driver = Interpreter::new("ptx0".to_string(), 1000);
    let Ok(kernel) = driver.load(name, text.to_vec()) else { return Ran::Refused };
    let mut memory = driver.alloc(4096).expect("memory");
    driver.write(&mut memory, 0, &[3; 4096]).expect("it is written");
    let value = |(number, (_, bytes)): (usize, &(usize, usize))| match bytes {
        8 => Value::Memory { memory: &memory, bytes: 4096, param: Param::InOut("both") },
        _ => Value::U32(number as u32 + 5),
    };
    let values: Vec<_> = kernel.params.iter().enumerate().map(value).collect();
    match driver.launch(&kernel, threads(1, 64), &values) {
        Ok(()) => Ran::Well,
        Err(error) => Ran::Fault(error),
    }
}

/// A seeded sequence (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// One to three changes: bytes, lines, words put in the place of others.
fn bend(text: &[u8], random: &mut Random) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(text.len());
        match random.below(9) {
            0 => text[at] = random.below(256) as u8,
            1 => drop(text.remove(at)),
            2 => text.truncate(text.len() - random.below(40).min(text.len() - 1)),
            3 => {
                let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
                let (from, to) = (random.below(lines.len()), random.below(lines.len()));
                lines[to] = lines[from];
                text = lines.join(&b'\n');
            }
            // Other registers, numbers and labels, which are mostly still some.
            4..8 => {
                let digit = text[at..].iter().position(u8::is_ascii_digit);
                if let Some(digit) = digit {
                    text[at + digit] = b'0' + random.below(10) as u8;
                }
            }
            _ => {
                let words: Vec<&[u8]> = text.split(|byte| b" \t,;".contains(byte)).collect();
                let word = words[random.below(words.len())].to_vec();
                let end = (at + word.len()).min(text.len());
                text.splice(at..end, word);
            }
        }
    }
    text
}
