// A sample of a row that is mirrored at its ends.
FN ushort across(GLOBAL const uint *weights, GLOBAL const uchar *from, uint x, uint width,
                 uint channels, uint taps, uint step)
{
    int pixel = x / channels * step, channel = x % channels, radius = taps / 2;
    uint sum = 0;
    for (int i = 0; i < (int)taps; i++)
        sum += weights[i] * from[mirrored(pixel + i - radius, width) * (int)channels + channel];
    return (ushort)sum;
}

// One group per row.
KERNEL void blur_across(GLOBAL const uint *restrict weights, GLOBAL const uchar *restrict src,
                        GLOBAL ushort *restrict dst, uint width, uint height, uint channels,
                        uint offset, uint stride, uint taps, uint step)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + offset + (size_t)y * stride;
    uint kept = (width + step - 1) / step * channels;
    GLOBAL ushort *to = dst + (size_t)y * kept;
    uint reach = taps / 2 * channels;
    SPANS(x, kept) {
        // What lies this far from both ends is not mirrored.
        if (step == 1 && x >= reach && x + SPAN + reach <= kept) {
            GLOBAL const uchar *first = from + x - reach;
            uint sums[SPAN];
            for (uint s = 0; s < SPAN; s++)
                sums[s] = 0;
            for (uint i = 0; i < taps; i++)
                for (uint s = 0; s < SPAN; s++)
                    sums[s] += weights[i] * first[i * channels + s];
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = (ushort)sums[s];
        } else {
            uint end = MIN(x + SPAN, kept);
            for (uint s = x; s < end; s++)
                to[s] = across(weights, from, s, width, channels, taps, step);
        }
    }
}

FN uchar divided(uint sum, uint whole)
{
    uint value = whole == 65536 ? sum >> 16 : sum / whole;
    return (uchar)MIN(value, 255u);
}

KERNEL void blur_down(GLOBAL const uint *restrict weights, GLOBAL const ushort *restrict src,
                      GLOBAL uchar *restrict dst, uint width, uint height, uint channels,
                      uint offset, uint stride, uint taps, uint step)
{
    uint y = ROW;
    if (y >= (height + step - 1) / step)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * stride;
    uint total = 0;
    for (uint i = 0; i < taps; i++)
        total += weights[i];
    uint whole = MAX(total * total, 1u), samples = width * channels;
    int first = (int)(y * step) - (int)taps / 2;
    SPANS(x, samples) {
        if (x + SPAN <= samples) {
            uint sums[SPAN];
            for (uint s = 0; s < SPAN; s++)
                sums[s] = whole / 2;
            for (int i = 0; i < (int)taps; i++) {
                GLOBAL const ushort *from =
                    src + (size_t)mirrored(first + i, height) * samples + x;
                for (uint s = 0; s < SPAN; s++)
                    sums[s] += weights[i] * from[s];
            }
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = divided(sums[s], whole);
        } else {
            for (uint s = x; s < samples; s++) {
                uint sum = whole / 2;
                for (int i = 0; i < (int)taps; i++)
                    sum += weights[i] *
                           src[(size_t)mirrored(first + i, height) * samples + s];
                to[s] = divided(sum, whole);
            }
        }
    }
}
