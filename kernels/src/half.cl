// One group per row of the result.
KERNEL void half_size(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                      uint height, uint src_stride, uint dst_stride)
{
    uint y = ROW;
    if (y >= (height + 1) / 2)
        return;
    GLOBAL const uchar *upper = src + (size_t)(2 * y) * src_stride;
    GLOBAL const uchar *lower = src + (size_t)min(2 * y + 1, height - 1) * src_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    uint pairs = width / 2;
    COLUMNS(x, pairs) {
        ushort sum = upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1];
        to[x] = (uchar)((ushort)(sum + 2) >> 2);
    }
    if ((width & 1) && LANE == 0) {
        ushort sum = 2 * (upper[width - 1] + lower[width - 1]);
        to[pairs] = (uchar)((ushort)(sum + 2) >> 2);
    }
}
