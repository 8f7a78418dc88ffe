// One work-item per row.
KERNEL void absdiff(__global const uchar *restrict a, __global const uchar *restrict b,
                    __global uchar *restrict dst, uint width, uint height, uint a_stride,
                    uint b_stride, uint dst_stride)
{
    uint y = get_global_id(0);
    if (y >= height)
        return;
    __global const uchar *from_a = a + (size_t)y * a_stride;
    __global const uchar *from_b = b + (size_t)y * b_stride;
    __global uchar *to = dst + (size_t)y * dst_stride;
    for (uint x = 0; x < width; x++) {
        uchar p = from_a[x], q = from_b[x];
        to[x] = max(p, q) - min(p, q);
    }
}
