// Byte `i` of a pixel from nowhere.
FN uchar fill_of(uint fill, uint i)
{
    return (uchar)(fill >> (8 * i));
}

// One group per row of the result.
KERNEL void rearrange(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst,
                      uint src_offset, uint src_stride, uint src_width, uint src_height,
                      uint src_step, uint dst_offset, uint dst_stride, uint width, uint height,
                      uint dst_step, uint bytes, int x0, int ax, int bx, int y0, int ay, int by,
                      uint shift, uint fill)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *row = dst + dst_offset + (size_t)y * dst_stride;
    COLUMNS(x, width) {
        int from_x = (x0 + ax * (int)x + bx * (int)y) >> shift;
        int from_y = (y0 + ay * (int)x + by * (int)y) >> shift;
        GLOBAL uchar *to = row + (size_t)x * dst_step;
        if (from_x < 0 || from_x >= (int)src_width || from_y < 0 || from_y >= (int)src_height) {
            for (uint i = 0; i < bytes; i++)
                to[i] = fill_of(fill, i);
            continue;
        }
        GLOBAL const uchar *from =
            src + src_offset + (size_t)from_y * src_stride + (size_t)from_x * src_step;
        for (uint i = 0; i < bytes; i++)
            to[i] = from[i];
    }
}
