FN uchar of_two(uchar a, uchar b, uint largest)
{
    return largest ? MAX(a, b) : MIN(a, b);
}

// One group per row.
KERNEL void morph_across(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                         uint height, uint src_stride, uint dst_stride, uint radius,
                         uint largest)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + (size_t)y * src_stride;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    SPANS(x, width) {
        if (x >= radius && x + SPAN + radius <= width) {
            uchar found[SPAN];
            for (uint s = 0; s < SPAN; s++)
                found[s] = from[x - radius + s];
            for (uint i = 1; i <= 2 * radius; i++)
                for (uint s = 0; s < SPAN; s++)
                    found[s] = of_two(found[s], from[x - radius + i + s], largest);
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = found[s];
        } else {
            for (uint s = x; s < MIN(x + SPAN, width); s++) {
                uint first = s < radius ? 0 : s - radius, last = MIN(s + radius, width - 1);
                uchar found = from[s];
                for (uint i = first; i <= last; i++)
                    found = of_two(found, from[i], largest);
                to[s] = found;
            }
        }
    }
}

KERNEL void morph_down(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                       uint height, uint src_stride, uint dst_stride, uint radius, uint largest)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + (size_t)y * dst_stride;
    uint first = y < radius ? 0 : y - radius, last = MIN(y + radius, height - 1);
    SPANS(x, width) {
        if (x + SPAN <= width) {
            uchar found[SPAN];
            for (uint s = 0; s < SPAN; s++)
                found[s] = src[(size_t)first * src_stride + x + s];
            for (uint i = first + 1; i <= last; i++)
                for (uint s = 0; s < SPAN; s++)
                    found[s] = of_two(found[s], src[(size_t)i * src_stride + x + s], largest);
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = found[s];
        } else {
            for (uint s = x; s < width; s++) {
                uchar found = src[(size_t)first * src_stride + s];
                for (uint i = first + 1; i <= last; i++)
                    found = of_two(found, src[(size_t)i * src_stride + s], largest);
                to[s] = found;
            }
        }
    }
}
