FN uchar absdiff_of(uchar a, uchar b)
{
    return MAX(a, b) - MIN(a, b);
}

// One group per row.
KERNEL void absdiff(GLOBAL const uchar *restrict a, GLOBAL const uchar *restrict b,
                    GLOBAL uchar *restrict dst, uint width, uint height, uint a_stride,
                    uint b_stride, uint dst_stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from_a = a + (size_t)y * a_stride;
    GLOBAL const uchar *from_b = b + (size_t)y * b_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    COLUMNS(x, width)
        to[x] = absdiff_of(from_a[x], from_b[x]);
}
