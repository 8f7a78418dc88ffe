//! Decoding by OpenH264, whose library is opened at run time. Names, signatures and structures:
//! `wels/codec_api.h`, `codec_app_def.h` and `codec_def.h` of OpenH264 2.3.

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_ulonglong};
use std::sync::Once;

use libloading::{Library, Symbol};

use super::Decoded;

/// The one version whose interface is written down here.
const LIBRARY: &str = "libopenh264.so.7";
/// The stream is no scalable one.
const STREAM_AVC: c_int = 0;

/// `ISVCDecoder`: a pointer to its functions.
type Handle = *mut *const Functions;

/// `ISVCDecoderVtbl`, as far as it is called; the rest are words.
#[repr(C)]
struct Functions {
    initialize: unsafe extern "C" fn(Handle, *const Settings) -> c_long,
    uninitialize: unsafe extern "C" fn(Handle) -> c_long,
    decode_frame: usize,
    decode_frame_no_delay:
        unsafe extern "C" fn(Handle, *const c_uchar, c_int, *mut *mut c_uchar, *mut Info) -> c_int,
}

/// `SDecodingParam`.
#[repr(C)]
struct Settings {
    reconstructed_path: *mut c_char,
    cpu_load: c_uint,
    layer: c_uchar,
    /// None: what is wrong in a stream must not be mended.
    concealment: c_int,
    parse_only: bool,
    property_bytes: c_uint,
    stream: c_int,
}

/// `SBufferInfo`.
#[repr(C)]
#[derive(Default)]
struct Info {
    /// 1 where there is a picture.
    status: c_int,
    time_in: c_ulonglong,
    time_out: c_ulonglong,
    width: c_int,
    height: c_int,
    format: c_int,
    strides: [c_int; 2],
    planes: [usize; 3],
}

struct Decoder {
    handle: Handle,
    library: Library,
}

/// The pictures of access units, in none of which OpenH264 may find a fault and each of which it
/// must show at once. Nothing, said aloud, where its library is not here.
pub(super) fn decode(units: &[Vec<u8>]) -> Option<Vec<Decoded>> {
    let decoder = Decoder::open()?;
    Some(units.iter().map(|unit| decoder.picture(unit)).collect())
}

impl Decoder {
    fn open() -> Option<Self> {
        static SAID: Once = Once::new();
        // SAFETY: its initialisers are those of a usual library of C++.
        let library = unsafe { Library::new(LIBRARY) }.ok().or_else(|| {
            SAID.call_once(|| aloud::skipped!("no {LIBRARY}; ./tools.sh test installs it"));
            None
        })?;
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: the signature is that of the header, and there is room for the handle.
        let made = unsafe {
            let create: Symbol<'_, unsafe extern "C" fn(*mut Handle) -> c_long> =
                library.get(b"WelsCreateDecoder\0").unwrap();
            create(&mut handle)
        };
        assert_eq!(made, 0, "no decoder");
        let settings = Settings {
            reconstructed_path: std::ptr::null_mut(),
            cpu_load: 0,
            layer: u8::MAX,
            concealment: 0,
            parse_only: false,
            property_bytes: 2 * size_of::<c_int>() as c_uint,
            stream: STREAM_AVC,
        };
        // SAFETY: the decoder was just made, and reads settings of this shape.
        let begun = unsafe { ((**handle).initialize)(handle, &settings) };
        assert_eq!(begun, 0, "the decoder does not begin");
        Some(Self { handle, library })
    }

    fn picture(&self, unit: &[u8]) -> Decoded {
        let (mut planes, mut info) = ([std::ptr::null_mut(); 3], Info::default());
        // SAFETY: the decoder is there, the unit is as long as is said, and there is room for what
        // it tells.
        let state = unsafe {
            let decode = (**self.handle).decode_frame_no_delay;
            decode(self.handle, unit.as_ptr(), unit.len() as c_int, planes.as_mut_ptr(), &mut info)
        };
        assert_eq!((state, info.status), (0, 1), "OpenH264 finds a fault, or has no picture");
        let (width, height) = (info.width as usize, info.height as usize);
        let plane = |number: usize| {
            let (wide, high) = if number == 0 { (width, height) } else { (width / 2, height / 2) };
            let stride = info.strides[usize::from(number > 0)] as usize;
            let line = |y: usize| {
                // SAFETY: until the next call a plane has all its lines, so many bytes apart.
                unsafe { std::slice::from_raw_parts(planes[number].add(y * stride), wide) }
            };
            (0..high).flat_map(line).copied().collect()
        };
        (width as u32, height as u32, [0, 1, 2].map(plane))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the decoder is there and nobody has it any more; the signature is the header's.
        unsafe {
            ((**self.handle).uninitialize)(self.handle);
            let destroy: Symbol<'_, unsafe extern "C" fn(Handle)> =
                self.library.get(b"WelsDestroyDecoder\0").unwrap();
            destroy(self.handle);
        }
    }
}
