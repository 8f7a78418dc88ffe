// Red or blue, by its part in the chroma sample beside the luma sample.
FN uchar yuv_side_of(uchar luma, uchar chroma, uint black, int cy, int factor)
{
    int above = (int)luma - (int)black;
    int value = cy * (above < 0 ? 0 : above) + (1 << 19);
    return BYTE((value + factor * ((int)chroma - 128)) >> 20);
}

FN uchar yuv_green_of(uchar luma, uchar cb, uchar cr, uint black, int cy, int cvg, int cug)
{
    int above = (int)luma - (int)black;
    int value = cy * (above < 0 ? 0 : above) + (1 << 19);
    return BYTE((value + cvg * ((int)cr - 128) + cug * ((int)cb - 128)) >> 20);
}

FN uchar rgb_gray_of(uchar red, uchar green, uchar blue)
{
    return (uchar)((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15);
}

// One group per row of the result.
KERNEL void yuv_rgb(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                    uint height, uint luma_stride, uint luma_step, uint cb_offset, uint cr_offset,
                    uint chroma_stride, uint chroma_step, uint chroma_shift, uint dst_stride,
                    uint dst_step, uint red_at, uint black, int cy, int cvr, int cvg, int cug,
                    int cub, uint luma_at)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *luma = src + luma_at + (size_t)y * luma_stride;
    GLOBAL const uchar *chroma = src + (size_t)(y >> chroma_shift) * chroma_stride;
    GLOBAL uchar *row = dst + (size_t)y * dst_stride;
    COLUMNS(x, width) {
        GLOBAL const uchar *pair = chroma + (size_t)(x / 2) * chroma_step;
        uchar u = pair[cb_offset], v = pair[cr_offset], own = luma[(size_t)x * luma_step];
        GLOBAL uchar *to = row + (size_t)x * dst_step;
        to[red_at] = yuv_side_of(own, v, black, cy, cvr);
        to[1] = yuv_green_of(own, u, v, black, cy, cvg, cug);
        to[2 - red_at] = yuv_side_of(own, u, black, cy, cub);
        if (dst_step == 4)
            to[3] = 255;
    }
}

KERNEL void rgb_gray(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                     uint height, uint src_stride, uint src_step, uint red_at, uint dst_stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    COLUMNS(x, width) {
        GLOBAL const uchar *from = src + (size_t)y * src_stride + (size_t)x * src_step;
        dst[(size_t)y * dst_stride + x] = rgb_gray_of(from[red_at], from[1], from[2 - red_at]);
    }
}

// One group per row of chroma; each item fills the luma of the pixels of its chroma.
KERNEL void rgb_yuv(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                    uint height, uint src_stride, uint src_step, uint red_at, uint luma_stride,
                    uint cb_at, uint cr_at, uint chroma_stride, uint chroma_step, int yr, int yg,
                    int yb, int ur, int ug, int ub, int vr, int vg, int vb, uint black)
{
    uint y = ROW;
    if (y >= (height + 1) / 2)
        return;
    COLUMNS(x, (width + 1) / 2) {
        int red = 0, green = 0, blue = 0;
        for (uint i = 0; i < 4; i++) {
            uint px = MIN(2 * x + i % 2, width - 1), py = MIN(2 * y + i / 2, height - 1);
            GLOBAL const uchar *from = src + (size_t)py * src_stride + (size_t)px * src_step;
            int r = from[red_at], g = from[1], b = from[2 - red_at];
            int sum = yr * r + yg * g + yb * b + (int)(black << 20) + (1 << 19);
            dst[(size_t)py * luma_stride + px] = BYTE(sum >> 20);
            red += r;
            green += g;
            blue += b;
        }
        GLOBAL uchar *to = dst + (size_t)y * chroma_stride + (size_t)x * chroma_step;
        int gray = (128 << 22) + (1 << 21);
        to[cb_at] = BYTE((ur * red + ug * green + ub * blue + gray) >> 22);
        to[cr_at] = BYTE((vr * red + vg * green + vb * blue + gray) >> 22);
    }
}
