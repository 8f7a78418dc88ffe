// Samples x to x + SPAN of a row, each with those around it: those of a place one behind the other.
FN void around(uchar *to, GLOBAL const uchar *src, uint x, uint y, uint width, uint height,
               uint channels, uint stride, uint side)
{
    uint reach = side / 2 * channels, row_samples = width * channels;
    for (uint j = 0; j < side; j++) {
        int row = MIN(MAX((int)(y + j) - (int)(side / 2), 0), (int)height - 1);
        GLOBAL const uchar *from = src + (size_t)row * stride;
        for (uint i = 0; i < side; i++) {
            uint place = (j * side + i) * SPAN;
            // What lies this far from both ends has all its neighbours.
            if (x >= reach && x + SPAN + reach <= row_samples) {
                for (uint s = 0; s < SPAN; s++)
                    to[place + s] = from[x + s + i * channels - reach];
            } else {
                for (uint s = 0; s < SPAN; s++) {
                    int pixel = (int)((x + s) / channels + i) - (int)(side / 2);
                    uint column = MIN(MAX(pixel, 0), (int)width - 1);
                    to[place + s] = from[column * channels + (x + s) % channels];
                }
            }
        }
    }
}

// Puts the lower of two places first.
FN void sort(uchar *a, uchar *b)
{
    for (uint s = 0; s < SPAN; s++) {
        uchar low = MIN(a[s], b[s]), high = MAX(a[s], b[s]);
        a[s] = low;
        b[s] = high;
    }
}

#define SORT(a, b) sort(p + a * SPAN, p + b * SPAN)

// The median of nine, at place 4 then (Paeth, Median finding on a 3 x 3 grid, Graphics Gems 1990).
FN void sort_nine(uchar *p)
{
    SORT(1, 2), SORT(4, 5), SORT(7, 8), SORT(0, 1), SORT(3, 4), SORT(6, 7), SORT(1, 2), SORT(4, 5),
    SORT(7, 8), SORT(0, 3), SORT(5, 8), SORT(4, 7), SORT(3, 6), SORT(1, 4), SORT(2, 5), SORT(4, 7),
    SORT(4, 2), SORT(6, 4), SORT(4, 2);
}

// That of 25, at place 12 (Devillard, Fast median search, 1998).
FN void sort_25(uchar *p)
{
    SORT(0, 1), SORT(3, 4), SORT(2, 4), SORT(2, 3), SORT(6, 7), SORT(5, 7), SORT(5, 6),
    SORT(9, 10), SORT(8, 10), SORT(8, 9), SORT(12, 13), SORT(11, 13), SORT(11, 12), SORT(15, 16),
    SORT(14, 16), SORT(14, 15), SORT(18, 19), SORT(17, 19), SORT(17, 18), SORT(21, 22),
    SORT(20, 22), SORT(20, 21), SORT(23, 24), SORT(2, 5), SORT(3, 6), SORT(0, 6), SORT(0, 3),
    SORT(4, 7), SORT(1, 7), SORT(1, 4), SORT(11, 14), SORT(8, 14), SORT(8, 11), SORT(12, 15),
    SORT(9, 15), SORT(9, 12), SORT(13, 16), SORT(10, 16), SORT(10, 13), SORT(20, 23),
    SORT(17, 23), SORT(17, 20), SORT(21, 24), SORT(18, 24), SORT(18, 21), SORT(19, 22),
    SORT(8, 17), SORT(9, 18), SORT(0, 18), SORT(0, 9), SORT(10, 19), SORT(1, 19), SORT(1, 10),
    SORT(11, 20), SORT(2, 20), SORT(2, 11), SORT(12, 21), SORT(3, 21), SORT(3, 12), SORT(13, 22),
    SORT(4, 22), SORT(4, 13), SORT(14, 23), SORT(5, 23), SORT(5, 14), SORT(15, 24), SORT(6, 24),
    SORT(6, 15), SORT(7, 16), SORT(7, 19), SORT(13, 21), SORT(15, 23), SORT(7, 13), SORT(7, 15),
    SORT(1, 9), SORT(3, 11), SORT(5, 17), SORT(11, 17), SORT(9, 17), SORT(4, 10), SORT(6, 12),
    SORT(7, 14), SORT(4, 6), SORT(4, 7), SORT(12, 14), SORT(10, 14), SORT(6, 7), SORT(10, 12),
    SORT(6, 10), SORT(6, 17), SORT(12, 17), SORT(7, 17), SORT(7, 10), SORT(12, 18), SORT(7, 12),
    SORT(10, 18), SORT(12, 20), SORT(10, 20), SORT(10, 12);
}

// One group per row.
KERNEL void median(GLOBAL const uchar *restrict src, GLOBAL uchar *restrict dst, uint width,
                   uint height, uint channels, uint offset, uint src_stride, uint dst_stride,
                   uint side)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    uint row_samples = width * channels;
    SPANS(x, row_samples) {
        uchar p[25 * SPAN];
        around(p, src + offset, x, y, width, height, channels, src_stride, side);
        if (side == 3)
            sort_nine(p);
        else
            sort_25(p);
        uchar *found = p + side * side / 2 * SPAN;
        if (x + SPAN <= row_samples) {
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = found[s];
        } else {
            for (uint s = 0; x + s < row_samples; s++)
                to[x + s] = found[s];
        }
    }
}
