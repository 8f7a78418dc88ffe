// One work-item per row: a plain loop that a CPU driver vectorises.
KERNEL void gray(__global const uchar *restrict src, __global uchar *restrict dst, uint width,
                 uint height, uint src_stride, uint dst_stride, uint limited)
{
    uint y = get_global_id(0);
    if (y >= height)
        return;
    __global const uchar *from = src + (size_t)y * src_stride;
    __global uchar *to = dst + (size_t)y * dst_stride;
    if (!limited) {
        for (uint x = 0; x < width; x++)
            to[x] = from[x];
        return;
    }
    for (uint x = 0; x < width; x++) {
        ushort above_black = clamp(from[x], (uchar)16, (uchar)235) - 16;
        to[x] = (uchar)((ushort)(above_black * 255 + 109) / (ushort)219);
    }
}
