// One work-item per row of the result.
KERNEL void half_size(__global const uchar *restrict src, __global uchar *restrict dst, uint width,
                      uint height, uint src_stride, uint dst_stride)
{
    uint y = get_global_id(0);
    if (y >= (height + 1) / 2)
        return;
    __global const uchar *upper = src + (size_t)(2 * y) * src_stride;
    __global const uchar *lower = src + (size_t)min(2 * y + 1, height - 1) * src_stride;
    __global uchar *to = dst + (size_t)y * dst_stride;
    uint pairs = width / 2;
    for (uint x = 0; x < pairs; x++) {
        ushort sum = upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1];
        to[x] = (uchar)((ushort)(sum + 2) >> 2);
    }
    if (width & 1) {
        ushort sum = 2 * (upper[width - 1] + lower[width - 1]);
        to[pairs] = (uchar)((ushort)(sum + 2) >> 2);
    }
}
