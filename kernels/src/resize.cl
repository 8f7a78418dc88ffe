// One group per row of the result.
KERNEL void resize_down(GLOBAL const int *restrict table, GLOBAL const uchar *restrict src,
                        GLOBAL short *restrict dst, uint width, uint height, uint channels,
                        uint offset, uint stride, uint dst_height, uint taps)
{
    uint y = ROW;
    if (y >= dst_height)
        return;
    GLOBAL const int *entry = table + (size_t)y * (taps + 1);
    uint samples = width * channels;
    GLOBAL short *to = dst + (size_t)y * samples;
    SPANS(x, samples) {
        if (x + SPAN <= samples) {
            int sums[SPAN];
            for (uint s = 0; s < SPAN; s++)
                sums[s] = 1 << 7;
            for (int i = 0; i < (int)taps; i++) {
                int row = MIN(MAX(entry[0] + i, 0), (int)height - 1);
                GLOBAL const uchar *from = src + offset + (size_t)row * stride + x;
                for (uint s = 0; s < SPAN; s++)
                    sums[s] += entry[1 + i] * from[s];
            }
            for (uint s = 0; s < SPAN; s++)
                to[x + s] = (short)(sums[s] >> 8);
        } else {
            for (uint s = x; s < samples; s++) {
                int sum = 1 << 7;
                for (int i = 0; i < (int)taps; i++) {
                    int row = MIN(MAX(entry[0] + i, 0), (int)height - 1);
                    sum += entry[1 + i] * src[offset + (size_t)row * stride + s];
                }
                to[s] = (short)(sum >> 8);
            }
        }
    }
}

KERNEL void resize_across(GLOBAL const int *restrict table, GLOBAL const short *restrict src,
                          GLOBAL uchar *restrict dst, uint width, uint height, uint channels,
                          uint offset, uint stride, uint dst_width, uint taps)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const short *from = src + (size_t)y * width * channels;
    GLOBAL uchar *to = dst + offset + (size_t)y * stride;
    COLUMNS(x, dst_width * channels) {
        GLOBAL const int *entry = table + (size_t)(x / channels) * (taps + 1);
        uint channel = x % channels;
        int sum = 1 << 19;
        for (int i = 0; i < (int)taps; i++) {
            int at = MIN(MAX(entry[0] + i, 0), (int)width - 1);
            sum += entry[1 + i] * from[at * channels + channel];
        }
        to[x] = BYTE(sum >> 20);
    }
}
