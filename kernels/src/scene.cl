// One group per row of the picture; `counts` is added to. A region has 32 bins, then a sum.
#define SIDE 4u
#define WORDS 33u

KERNEL void scene(GLOBAL const uchar *restrict now, GLOBAL const uchar *restrict before,
                  GLOBAL uint *restrict counts, uint width, uint height, uint now_stride,
                  uint before_stride)
{
    uint y = ROW;
    if (y >= height)
        return;
    GLOBAL const uchar *a = now + (size_t)y * now_stride;
    GLOBAL const uchar *b = before + (size_t)y * before_stride;
    GLOBAL uint *row = counts + y * SIDE / height * SIDE * WORDS;
    for (uint region = 0; region < SIDE; region++) {
        uint end = ((region + 1) * width + SIDE - 1) / SIDE, sum = 0;
        GLOBAL uint *to = row + region * WORDS;
        for (uint x = (region * width + SIDE - 1) / SIDE + LANE; x < end; x += GROUP) {
            uint p = a[x], q = b[x];
            sum += p > q ? p - q : q - p;
            if (p / 8 != q / 8) {
                ATOMIC_ADD(to + p / 8, 1u);
                ATOMIC_ADD(to + q / 8, 0xFFFFFFFFu);
            }
        }
        if (sum != 0)
            ATOMIC_ADD(to + WORDS - 1, sum);
    }
}

// One item per word: the newest of three records is emptied, the others move on by one.
KERNEL void scene_shift(GLOBAL const uint *restrict before, GLOBAL uint *restrict after)
{
    uint i = ITEM, record = SIDE * SIDE * WORDS;
    if (i >= 3 * record)
        return;
    after[i] = i < record ? 0 : before[i - record];
}
