FN uchar threshold_of(uchar sample, uint level)
{
    return sample > (uchar)MIN(level, 255u) ? 255 : 0;
}

// One group per row.
KERNEL void threshold(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                      uint height, uint src_stride, uint dst_stride, uint level)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + (size_t)y * src_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    COLUMNS(x, width)
        to[x] = threshold_of(from[x], level);
}
