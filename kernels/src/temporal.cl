// One item per sample; two bytes of state each, behind the number of frames seen.
KERNEL void temporal(GLOBAL const ushort *restrict before, GLOBAL const uchar *restrict src,
                     GLOBAL ushort *restrict after, uint bytes, uint base, uint slope)
{
    uint i = ITEM;
    if (i >= bytes)
        return;
    uint seen = (uint)before[0] | (uint)before[1] << 16;
    int target = src[i] * 256 + 128, old = before[2 + i];
    int d = target - old;
    uint rate = MIN(base + slope * ((uint)(d < 0 ? -d : d) >> 8), 65536u);
    int next = old + ((d * (int)(rate >> 1)) >> 15);
    after[2 + i] = (ushort)(seen == 0 ? target : next);
    if (i == 0) {
        uint count = seen == 0xFFFFFFFFu ? seen : seen + 1;
        after[0] = (ushort)(count & 0xFFFF);
        after[1] = (ushort)(count >> 16);
    }
}
