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
        int u = pair[cb_offset] - 128, v = pair[cr_offset] - 128;
        int above = (int)luma[(size_t)x * luma_step] - (int)black;
        int value = cy * (above < 0 ? 0 : above) + (1 << 19);
        GLOBAL uchar *to = row + (size_t)x * dst_step;
        to[red_at] = BYTE((value + cvr * v) >> 20);
        to[1] = BYTE((value + cvg * v + cug * u) >> 20);
        to[2 - red_at] = BYTE((value + cub * u) >> 20);
        if (dst_step == 4)
            to[3] = 255;
    }
}

KERNEL void rgb_plane(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                      uint height, uint src_stride, uint src_step, uint red_at, uint halvings,
                      uint dst_offset, uint dst_stride, uint dst_step, int cr, int cg, int cb,
                      uint offset)
{
    uint y = ROW, side = 1 << halvings;
    if (y >= (height + side - 1) >> halvings)
        return;
    GLOBAL uchar *row = dst + dst_offset + (size_t)y * dst_stride;
    uint shift = 20 + 2 * halvings;
    int round = (int)(offset << shift) + (1 << (shift - 1));
    COLUMNS(x, (width + side - 1) >> halvings) {
        int red = 0, green = 0, blue = 0;
        for (uint dy = 0; dy < side; dy++) {
            for (uint dx = 0; dx < side; dx++) {
                uint px = MIN(x * side + dx, width - 1), py = MIN(y * side + dy, height - 1);
                GLOBAL const uchar *from = src + (size_t)py * src_stride + (size_t)px * src_step;
                red += from[red_at];
                green += from[1];
                blue += from[2 - red_at];
            }
        }
        row[(size_t)x * dst_step] = BYTE((cr * red + cg * green + cb * blue + round) >> shift);
    }
}
