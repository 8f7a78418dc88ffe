use super::*;
use crate::Device;
use crate::command::{Arg, Command, Grid, Kernel as Form, Launch};
use crate::conformance;

mod faults;
mod fuzz;
mod semantics;

#[test]
fn conforms() {
    for size in cuda::GROUP_SIZES {
        let Some(device) = device_for_tests(CRATE, size) else { return };
        conformance::check(&device);
    }
    let nvrtc_dir = Some(nvrtc_for_tests(CRATE));
    let by_turns = device(&Config { nvrtc_dir, ..Config::default() }).unwrap();
    conformance::check(&by_turns);
}

#[test]
fn kernels_of_one_text_are_compiled_together() {
    const TEXT: &str = "
        KERNEL void first(GLOBAL const uchar *src, GLOBAL uchar *dst, uint count, uint factor)
        { if (ITEM < count) dst[ITEM] = (uchar)(src[ITEM] + factor); }
        KERNEL void second(GLOBAL const uchar *src, GLOBAL uchar *dst, uint count, uint factor)
        { if (ITEM < count) dst[ITEM] = (uchar)(src[ITEM] * factor); }";
    static KERNELS: [Form; 2] = [form("first", TEXT), form("second", TEXT)];
    let Some(device) = device_for_tests(CRATE, 64) else { return };
    let ids = [device.alloc(100).unwrap(), device.alloc(100).unwrap()];
    for (kernel, expected) in KERNELS.iter().zip([12, 35]) {
        device.write(ids[0], 0, &[7; 100]).unwrap();
        let args = ids.map(Arg::Buffer).into_iter().chain([100, 5].map(Arg::U32)).collect();
        let launch = Launch { kernel, args, grid: Grid::Items(100) };
        device.run(&[Command::Launch(launch)]).unwrap();
        let mut got = [0; 100];
        device.read(ids[1], 0, &mut got).unwrap();
        assert_eq!(got, [expected; 100], "{}", kernel.stem);
    }
    assert_eq!(device.texts(), 1);
}

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// A kernel with the parameters of [`conformance::SCALE_ADD`] and a source of its own.
const fn form(stem: &'static str, cuda: &'static str) -> Form {
    Form {
        stem,
        params: &[Param::In("src"), Param::Out("dst"), Param::U32("count"), Param::U32("factor")],
        opencl: cuda,
        cuda,
        cpu: |_| {},
        bytes_needed: |scalars| Some(vec![*scalars.first()? as usize; 2]),
        joined: None,
    }
}

/// What a test hands to a kernel.
enum Given<'a> {
    Number(u32),
    Buffer(Param, &'a [u8]),
}

/// Loads and launches the kernel `t` of a text; what the buffers hold afterwards.
fn launched(text: &str, shape: Shape, given: &[Given<'_>]) -> Result<Vec<Vec<u8>>> {
    let driver = Interpreter::new("ptx0".to_string(), 20_000);
    let kernel = driver.load("t", text.as_bytes().to_vec())?;
    let mut memory = Vec::new();
    for given in given {
        if let Given::Buffer(_, data) = given {
            let mut buffer = driver.alloc(data.len())?;
            driver.write(&mut buffer, 0, data)?;
            memory.push((buffer, data.len()));
        }
    }
    let mut buffers = memory.iter();
    let values = given.iter().map(|given| match given {
        Given::Number(value) => Value::U32(*value),
        Given::Buffer(param, _) => {
            let (memory, bytes) = buffers.next().expect("made above");
            Value::Memory { memory, bytes: *bytes, param: *param }
        }
    });
    let values: Vec<_> = values.collect();
    driver.launch(&kernel, shape, &values)?;
    let read = |(buffer, bytes): &(Allocation, usize)| {
        let mut data = vec![0; *bytes];
        driver.read(buffer, 0, &mut data).map(|()| data)
    };
    memory.iter().map(read).collect()
}

fn threads(blocks: u32, threads: u32) -> Shape {
    Shape { blocks, threads, shared_bytes: 0 }
}

/// A kernel `t` with one buffer, whose address is in `%rd0`, and the thread's number in `%r0`.
fn text(declarations: &str, body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n{declarations}\n\
         .visible .entry t(\n.param .u64 t_0)\n{{\n\
         .reg .pred %p<9>;\n.reg .b16 %rs<9>;\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n\
         ld.param.u64 %rd0, [t_0];\nmov.u32 %r0, %tid.x;\n{body}\nret;\n}}\n"
    )
}
