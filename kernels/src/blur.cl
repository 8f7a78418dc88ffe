// One group per row.
KERNEL void blur_across(GLOBAL const uint *restrict weights, GLOBAL const uchar *restrict src,
                        GLOBAL ushort *restrict dst, uint width, uint height, uint channels,
                        uint offset, uint stride, uint taps, uint step)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *from = src + offset + (size_t)y * stride;
    uint kept = (width + step - 1) / step;
    GLOBAL ushort *to = dst + (size_t)y * kept * channels;
    int radius = taps / 2;
    COLUMNS(x, kept * channels) {
        int pixel = x / channels * step, channel = x % channels;
        uint sum = 0;
        if (pixel >= radius && pixel + radius < (int)width) {
            GLOBAL const uchar *first = from + (pixel - radius) * (int)channels + channel;
            for (uint i = 0; i < taps; i++)
                sum += weights[i] * first[i * channels];
        } else {
            for (int i = 0; i < (int)taps; i++)
                sum += weights[i] *
                       from[mirrored(pixel + i - radius, width) * (int)channels + channel];
        }
        to[x] = (ushort)sum;
    }
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
    uint whole = MAX(total * total, 1u);
    int radius = taps / 2;
    COLUMNS(x, width * channels) {
        uint sum = whole / 2;
        for (int i = 0; i < (int)taps; i++) {
            uint row = mirrored((int)(y * step) + i - radius, height);
            sum += weights[i] * src[(size_t)row * width * channels + x];
        }
        uint value = whole == 65536 ? sum >> 16 : sum / whole;
        to[x] = (uchar)MIN(value, 255u);
    }
}
