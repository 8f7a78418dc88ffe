// One item per sample: three modes of weight, mean and variance, then the mask.
#define MODES 3
#define RECORD 10
#define ALL 32768u

KERNEL void mog2(GLOBAL const ushort *restrict before, GLOBAL const uchar *restrict src,
                 GLOBAL ushort *restrict after, uint samples, uint rate, uint limit)
{
    uint i = ITEM;
    if (i >= samples)
        return;
    GLOBAL const ushort *from = before + (size_t)i * RECORD;
    GLOBAL ushort *to = after + (size_t)i * RECORD;
    uint weight[MODES], mean[MODES], variance[MODES];
    uint prune = rate / 20, sum = 0, total = 0;
    int target = (int)src[i] * 128, taken = -1, is_background = 0;
    for (int k = 0; k < MODES; k++) {
        uint w = from[3 * k];
        int m = from[3 * k + 1], v = from[3 * k + 2];
        uint loss = (w * rate >> 15) + prune;
        uint aged = w > loss ? w - loss : 0;
        int d = target - m;
        uint q = (uint)(d * d) >> 10;
        if (w > 0 && taken < 0) {
            if (sum < ALL * 9 / 10 && q < limit * (uint)v)
                is_background = 1;
            if (q < 9 * (uint)v) {
                taken = k;
                aged += rate;
                uint most = (rate << 15) / aged;
                int share = (int)MIN(most, ALL);
                m += d * share >> 15;
                v += ((int)q - v) * share >> 15;
                v = MIN(MAX(v, 64), 1200);
            }
        }
        weight[k] = aged < MAX(prune, 1u) ? 0 : aged;
        mean[k] = (uint)m;
        variance[k] = (uint)v;
        sum += weight[k];
    }
    if (taken < 0) {
        taken = MODES - 1;
        for (int k = MODES - 2; k >= 0; k--)
            if (weight[k] == 0)
                taken = k;
        weight[taken] = sum == 0 ? ALL : rate;
        mean[taken] = (uint)target;
        variance[taken] = 240;
    }
    for (int k = 0; k < MODES; k++)
        total += weight[k];
    for (int k = 0; k < MODES; k++)
        weight[k] = (uint)((ulong)weight[k] * ALL / MAX(total, 1u));
    for (int k = taken; k > 0; k--) {
        if (weight[k] > weight[k - 1]) {
            uint w = weight[k], m = mean[k], v = variance[k];
            weight[k] = weight[k - 1];
            mean[k] = mean[k - 1];
            variance[k] = variance[k - 1];
            weight[k - 1] = w;
            mean[k - 1] = m;
            variance[k - 1] = v;
        }
    }
    for (int k = 0; k < MODES; k++) {
        to[3 * k] = (ushort)weight[k];
        to[3 * k + 1] = (ushort)mean[k];
        to[3 * k + 2] = (ushort)variance[k];
    }
    to[RECORD - 1] = is_background ? 0 : 255;
}
