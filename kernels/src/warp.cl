FN int inside_or(GLOBAL const uchar *restrict src, int x, int y, uint width, uint height,
                 uint stride, uint channels, uint channel, uint fill)
{
    if (x < 0 || y < 0 || x >= (int)width || y >= (int)height)
        return (fill >> (8 * channel)) & 255;
    return src[(size_t)y * stride + (size_t)x * channels + channel];
}

// One group per row of the result.
KERNEL void warp(GLOBAL const int *restrict table, GLOBAL const uchar *restrict src,
                 GLOBAL uchar *restrict dst, uint width, uint height, uint channels,
                 uint src_width, uint src_height, uint src_offset, uint src_stride,
                 uint dst_offset, uint dst_stride, uint fill)
{
    uint y = ROW;
    if (y >= height)
        return;
    int row_x = table[2 * (width + y)], row_y = table[2 * (width + y) + 1];
    COLUMNS(x, width) {
        int at_x = (table[2 * x] + row_x) >> 5, at_y = (table[2 * x + 1] + row_y) >> 5;
        int left = at_x >> 5, top = at_y >> 5, dx = at_x & 31, dy = at_y & 31;
        GLOBAL uchar *to = dst + dst_offset + (size_t)y * dst_stride + (size_t)x * channels;
        for (uint channel = 0; channel < channels; channel++) {
#define SAMPLE(x, y) inside_or(src + src_offset, x, y, src_width, src_height, src_stride, \
                               channels, channel, fill)
            int upper = (32 - dx) * SAMPLE(left, top) + dx * SAMPLE(left + 1, top);
            int lower = (32 - dx) * SAMPLE(left, top + 1) + dx * SAMPLE(left + 1, top + 1);
            to[channel] = (uchar)(((32 - dy) * upper + dy * lower + 512) >> 10);
        }
    }
}
