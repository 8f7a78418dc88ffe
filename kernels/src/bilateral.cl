// One group per row.
KERNEL void bilateral(GLOBAL const uint *restrict weights, GLOBAL const uchar *restrict src,
                      GLOBAL uchar *restrict dst, uint width, uint height, uint channels,
                      uint offset, uint src_stride, uint dst_stride, uint side)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL uchar *to = dst + offset + (size_t)y * dst_stride;
    int radius = side / 2;
    COLUMNS(x, width * channels) {
        int pixel = x / channels, channel = x % channels;
        int middle = src[offset + (size_t)y * src_stride + x];
        uint sum = 0, total = 0;
        for (int dy = -radius; dy <= radius; dy++) {
            GLOBAL const uchar *row =
                src + offset + (size_t)mirrored((int)y + dy, height) * src_stride;
            for (int dx = -radius; dx <= radius; dx++) {
                int sample = row[mirrored(pixel + dx, width) * (int)channels + channel];
                int difference = sample < middle ? middle - sample : sample - middle;
                uint place = 256 + (dy + radius) * side + dx + radius;
                uint weight = (weights[difference] & 255) * (weights[place] & 255);
                sum += weight * sample;
                total += weight;
            }
        }
        to[x] = (uchar)((sum + total / 2) / MAX(total, 1u));
    }
}
