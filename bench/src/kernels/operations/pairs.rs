//! What is compared: each operation in our words and in those of others.

use accel::PixelFormat;

use super::peers::Peer;

/// An operation in our words and in those of who does the same.
pub(super) struct Pair {
    pub name: &'static str,
    pub format: PixelFormat,
    /// Steps one after the other, with bars between them, as JSON without inputs and outputs. A
    /// first one with two inputs gets the same picture twice. HALF and THIRD are sides: half, and
    /// two thirds, of the picture's.
    pub op: &'static str,
    /// By the number of the peer, in the words of the script or the program that asks it; empty
    /// where it has no such thing.
    pub cases: [&'static str; Peer::ALL.len()],
}

const fn of(format: PixelFormat, name: &'static str, op: &'static str) -> Pair {
    Pair { name, format, op, cases: [""; Peer::ALL.len()] }
}

const fn gray(name: &'static str, op: &'static str) -> Pair {
    of(PixelFormat::Gray8, name, op)
}

const fn rgb(name: &'static str, op: &'static str) -> Pair {
    of(PixelFormat::Rgb24, name, op)
}

impl Pair {
    const fn with(mut self, peer: Peer, case: &'static str) -> Self {
        self.cases[peer as usize] = case;
        self
    }

    const fn opencv(self, case: &'static str) -> Self {
        self.with(Peer::OpenCv, case)
    }

    const fn ffmpeg(self, case: &'static str) -> Self {
        self.with(Peer::Ffmpeg, case)
    }

    const fn yuv(self, case: &'static str) -> Self {
        self.with(Peer::Yuv, case)
    }

    const fn fast_image_resize(self, case: &'static str) -> Self {
        self.with(Peer::FastImageResize, case)
    }

    const fn libjpeg_turbo(self, case: &'static str) -> Self {
        self.with(Peer::LibjpegTurbo, case)
    }
}

pub(super) const PAIRS: &[Pair] = &[
    of(PixelFormat::Nv12, "nv12 to rgb24", r#""op": "convert", "to": "rgb24""#)
        .opencv("cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12, out_rgb)")
        .ffmpeg(r#"scale("nv12", "rgb24")"#)
        .yuv("nv12 rgb24"),
    of(PixelFormat::Nv12, "nv12 to bgr24", r#""op": "convert", "to": "bgr24""#)
        .opencv("cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12, out_rgb)")
        .ffmpeg(r#"scale("nv12", "bgr24")"#)
        .yuv("nv12 bgr24"),
    of(PixelFormat::Nv12, "nv12 to rgba", r#""op": "convert", "to": "rgba""#)
        .opencv("cv2.cvtColor(nv12, cv2.COLOR_YUV2RGBA_NV12)")
        .ffmpeg(r#"scale("nv12", "rgba")"#)
        .yuv("nv12 rgba"),
    of(PixelFormat::Nv21, "nv21 to rgb24", r#""op": "convert", "to": "rgb24""#)
        .opencv("cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV21, out_rgb)")
        .ffmpeg(r#"scale("nv21", "rgb24")"#)
        .yuv("nv21 rgb24"),
    of(PixelFormat::I420, "i420 to rgb24", r#""op": "convert", "to": "rgb24""#)
        .opencv("cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_I420, out_rgb)")
        .ffmpeg(r#"scale("yuv420p", "rgb24")"#)
        .yuv("i420 rgb24"),
    of(PixelFormat::Yuyv, "yuyv to rgb24", r#""op": "convert", "to": "rgb24""#)
        .opencv("cv2.cvtColor(yuyv, cv2.COLOR_YUV2RGB_YUY2, out_rgb)")
        .ffmpeg(r#"scale("yuyv422", "rgb24")"#)
        .yuv("yuyv rgb24"),
    of(PixelFormat::Uyvy, "uyvy to rgb24", r#""op": "convert", "to": "rgb24""#)
        .opencv("cv2.cvtColor(uyvy, cv2.COLOR_YUV2RGB_UYVY, out_rgb)")
        .ffmpeg(r#"scale("uyvy422", "rgb24")"#)
        .yuv("uyvy rgb24"),
    rgb("rgb24 to i420", r#""op": "convert", "to": "i420""#)
        .opencv("cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)")
        .ffmpeg(r#"scale("rgb24", "yuv420p")"#)
        .yuv("rgb24 i420"),
    rgb("rgb24 to nv12", r#""op": "convert", "to": "nv12""#)
        .ffmpeg(r#"scale("rgb24", "nv12")"#)
        .yuv("rgb24 nv12"),
    rgb("rgb24 to gray", r#""op": "convert", "to": "gray8""#)
        .opencv("cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY, out_gray)")
        .ffmpeg(r#"scale("rgb24", "gray")"#)
        .yuv("rgb24 gray"),
    gray("half", r#""op": "half""#)
        .opencv("cv2.resize(g, half, interpolation=cv2.INTER_AREA)")
        .ffmpeg(r#"scale("gray", "gray", w // 2, h // 2, AREA)"#)
        .fast_image_resize("gray 1/2 box"),
    rgb("resize 1/2 bilinear rgb", r#""op": "resize", HALF"#)
        .opencv("cv2.resize(rgb, half, interpolation=cv2.INTER_LINEAR)")
        .ffmpeg(r#"scale("rgb24", "rgb24", w // 2, h // 2, BILINEAR)"#)
        .fast_image_resize("rgb24 1/2 bilinear"),
    rgb("resize 2/3 nearest rgb", r#""op": "resize", THIRD, "filter": "nearest""#)
        .opencv("cv2.resize(rgb, third, interpolation=cv2.INTER_NEAREST)")
        .ffmpeg(r#"scale("rgb24", "rgb24", w * 2 // 3, h * 2 // 3, NEAREST)"#)
        .fast_image_resize("rgb24 2/3 nearest"),
    rgb("resize 2/3 bilinear rgb", r#""op": "resize", THIRD"#)
        .opencv("cv2.resize(rgb, third, interpolation=cv2.INTER_LINEAR)")
        .ffmpeg(r#"scale("rgb24", "rgb24", w * 2 // 3, h * 2 // 3, BILINEAR)"#)
        .fast_image_resize("rgb24 2/3 bilinear"),
    rgb("resize 2/3 bicubic rgb", r#""op": "resize", THIRD, "filter": "bicubic""#)
        .opencv("cv2.resize(rgb, third, interpolation=cv2.INTER_CUBIC)")
        .ffmpeg(r#"scale("rgb24", "rgb24", w * 2 // 3, h * 2 // 3, BICUBIC)"#)
        .fast_image_resize("rgb24 2/3 bicubic"),
    rgb("resize 2/3 lanczos rgb", r#""op": "resize", THIRD, "filter": "lanczos""#)
        .opencv("cv2.resize(rgb, third, interpolation=cv2.INTER_LANCZOS4)")
        .ffmpeg(r#"scale("rgb24", "rgb24", w * 2 // 3, h * 2 // 3, LANCZOS)"#)
        .fast_image_resize("rgb24 2/3 lanczos"),
    rgb("resize 2/3 area rgb", r#""op": "resize", THIRD, "filter": "area""#)
        .opencv("cv2.resize(rgb, third, interpolation=cv2.INTER_AREA)")
        .ffmpeg(r#"scale("rgb24", "rgb24", w * 2 // 3, h * 2 // 3, AREA)"#)
        .fast_image_resize("rgb24 2/3 box"),
    gray("resize 2/3 bilinear", r#""op": "resize", THIRD"#)
        .opencv("cv2.resize(g, third, interpolation=cv2.INTER_LINEAR)")
        .ffmpeg(r#"scale("gray", "gray", w * 2 // 3, h * 2 // 3, BILINEAR)"#)
        .fast_image_resize("gray 2/3 bilinear"),
    gray("flip", r#""op": "flip""#)
        .opencv("cv2.flip(g, 1, out_gray)")
        .ffmpeg(r#"filtered("gray", "hflip")"#),
    gray("transpose", r#""op": "transpose""#)
        .opencv("cv2.transpose(g)")
        .ffmpeg(r#"filtered("gray", "transpose=dir=cclock_flip")"#),
    gray("rotate 90", r#""op": "rotate", "degrees": 90"#)
        .opencv("cv2.rotate(g, cv2.ROTATE_90_CLOCKWISE)")
        .ffmpeg(r#"filtered("gray", "transpose=dir=clock")"#),
    rgb("pad rgb", r#""op": "pad", "left": 8, "top": 8, "right": 8, "bottom": 8"#)
        .opencv("cv2.copyMakeBorder(rgb, 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=(16, 128, 128))")
        .ffmpeg(r#"filtered("rgb24", "pad=w=iw+16:h=ih+16:x=8:y=8")"#),
    gray("gaussian 5", r#""op": "gaussian""#)
        .opencv("cv2.GaussianBlur(g, (5, 5), 0, out_gray)")
        .ffmpeg(r#"filtered("gray", "gblur=sigma=1.1:steps=1")"#),
    rgb("gaussian 5 rgb", r#""op": "gaussian""#)
        .opencv("cv2.GaussianBlur(rgb, (5, 5), 0, out_rgb)"),
    gray("gaussian 15", r#""op": "gaussian", "size": 15"#)
        .opencv("cv2.GaussianBlur(g, (15, 15), 0, out_gray)")
        .ffmpeg(r#"filtered("gray", "gblur=sigma=2.6:steps=1")"#),
    gray("box 5", r#""op": "box""#)
        .opencv("cv2.blur(g, (5, 5), out_gray)")
        .ffmpeg(r#"filtered("gray", "avgblur=sizeX=2")"#),
    gray("median 3", r#""op": "median", "size": "3""#)
        .opencv("cv2.medianBlur(g, 3, out_gray)")
        .ffmpeg(r#"filtered("gray", "median=radius=1")"#),
    gray("median 5", r#""op": "median", "size": "5""#)
        .opencv("cv2.medianBlur(g, 5, out_gray)")
        .ffmpeg(r#"filtered("gray", "median=radius=2")"#),
    gray("sobel", r#""op": "sobel""#)
        .opencv(
            "cv2.add(cv2.convertScaleAbs(cv2.Sobel(g, cv2.CV_16S, 1, 0)), \
            cv2.convertScaleAbs(cv2.Sobel(g, cv2.CV_16S, 0, 1)))",
        )
        .ffmpeg(r#"filtered("gray", "sobel")"#),
    gray("laplacian", r#""op": "laplacian""#)
        .opencv("cv2.convertScaleAbs(cv2.Laplacian(g, cv2.CV_16S))"),
    gray("filter2d 3", r#""op": "filter2d""#)
        .opencv("cv2.filter2D(g, -1, sharp, out_gray)")
        .ffmpeg(r#"filtered("gray", "convolution=0m=0 -1 0 -1 5 -1 0 -1 0")"#),
    gray("erode 3", r#""op": "erode""#)
        .opencv("cv2.erode(g, square3, out_gray)")
        .ffmpeg(r#"filtered("gray", "erosion")"#),
    gray("dilate 7", r#""op": "dilate", "size": 7"#).opencv("cv2.dilate(g, square7, out_gray)"),
    gray("open 3", r#""op": "open""#)
        .opencv("cv2.morphologyEx(g, cv2.MORPH_OPEN, square3, out_gray)")
        .ffmpeg(r#"filtered("gray", "erosion,dilation")"#),
    gray("close 7", r#""op": "close", "size": 7"#)
        .opencv("cv2.morphologyEx(g, cv2.MORPH_CLOSE, square7, out_gray)"),
    rgb("mix rgb", r#""op": "mix""#).opencv("cv2.addWeighted(rgb, 0.5, rgb2, 0.5, 0, out_rgb)"),
    gray("mix", r#""op": "mix""#)
        .opencv("cv2.addWeighted(g, 0.5, g2, 0.5, 0, out_gray)")
        .ffmpeg(r#"filtered("gray", "blend=all_mode=average", 2)"#),
    gray("unsharp", r#""op": "unsharp""#)
        .opencv("cv2.addWeighted(g, 2, cv2.GaussianBlur(g, (5, 5), 0), -1, 0, out_gray)"),
    gray("levels", r#""op": "levels", "gamma": 0.5"#)
        .opencv("cv2.LUT(g, levels, out_gray)")
        .ffmpeg(r#"filtered("gray", "lut=c0=gammaval(0.5)")"#),
    gray("absdiff", r#""op": "absdiff""#)
        .opencv("cv2.absdiff(g, g2, out_gray)")
        .ffmpeg(r#"filtered("gray", "blend=all_mode=difference", 2)"#),
    gray("threshold", r#""op": "threshold""#)
        .opencv("cv2.threshold(g, 24, 255, cv2.THRESH_BINARY, out_gray)")
        .ffmpeg(r#"filtered("gray", "lut=c0=gt(val\\,24)*255")"#),
    gray("histogram", r#""op": "histogram""#)
        .opencv("cv2.calcHist([g], [0], None, [256], [0, 256])"),
    gray("equalise", r#""op": "equalise""#).opencv("cv2.equalizeHist(g, out_gray)"),
    gray("integral", r#""op": "integral""#).opencv("cv2.integral(g)"),
    gray("pyramid_down", r#""op": "pyramid_down""#).opencv("cv2.pyrDown(g)"),
    gray("bilateral 5", r#""op": "bilateral""#)
        .opencv("cv2.bilateralFilter(g, 5, 30, 2)")
        .ffmpeg(r#"filtered("gray", "bilateral=sigmaS=2:sigmaR=0.12")"#),
    gray("corners", r#""op": "corners""#).opencv("cv2.cornerHarris(g, 3, 3, 1 / 16)"),
    rgb("warp rgb", r#""op": "warp", "map": [62000, 9000, -120000, -9000, 62000, 300000]"#).opencv(
        "cv2.warpAffine(rgb, turned, (w, h), out_rgb, cv2.INTER_LINEAR | \
            cv2.WARP_INVERSE_MAP)",
    ),
    gray("background", r#""op": "background""#).opencv("cv2.accumulateWeighted(g, average, 0.02)"),
    gray("mog2", r#""op": "mog2""#).opencv("mog2.apply(g, out_gray)"),
    of(PixelFormat::I420, "denoise", r#""op": "denoise""#)
        .ffmpeg(r#"filtered("yuv420p", "hqdn3d")"#),
    gray("motion", r#""op": "motion", "radius": 7"#)
        .ffmpeg(r#"filtered("gray", "setpts=N,mestimate=method=esa:mb_size=16:search_param=7")"#),
    gray("motion, diamond", r#""op": "motion", "radius": 7, "search": "diamond""#)
        .ffmpeg(r#"filtered("gray", "setpts=N,mestimate=method=ds:mb_size=16:search_param=7")"#),
    gray("scene", r#""op": "scene""#).ffmpeg(r#"filtered("gray", "scdet")"#),
    gray("threshold, components", r#""op": "threshold", "level": 110 | "op": "components""#)
        .opencv(
            "cv2.connectedComponents(cv2.threshold(g, 110, 255, cv2.THRESH_BINARY)[1], \
            connectivity=8)",
        ),
    gray("psnr", r#""op": "psnr""#)
        .opencv("cv2.PSNR(g, g2)")
        .ffmpeg(r#"filtered("gray", "[in0]setpts=N[a];[in1]setpts=N[b];[a][b]psnr", 2)"#),
    gray("ssim", r#""op": "ssim""#)
        .ffmpeg(r#"filtered("gray", "[in0]setpts=N[a];[in1]setpts=N[b];[a][b]ssim", 2)"#),
    of(PixelFormat::Nv12, "jpeg 80", r#""op": "jpeg", "quality": 80"#).libjpeg_turbo("80"),
];
