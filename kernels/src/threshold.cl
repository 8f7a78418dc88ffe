// One work-item per row.
KERNEL void threshold(__global const uchar *restrict src, __global uchar *restrict dst, uint width,
                      uint height, uint src_stride, uint dst_stride, uint level)
{
    uint y = get_global_id(0);
    if (y >= height)
        return;
    __global const uchar *from = src + (size_t)y * src_stride;
    __global uchar *to = dst + (size_t)y * dst_stride;
    uchar least = (uchar)min(level, 255u);
    for (uint x = 0; x < width; x++)
        to[x] = from[x] > least ? 255 : 0;
}
