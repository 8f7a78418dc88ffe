// As much of the vendor's ap_uint as the HLS kernels use, for compilers of this machine: whole
// bytes, and ranges of at most 64 bits that begin and end where bytes do. Vitis HLS brings its own
// header of this name, with the same meaning for what is used here.
#ifndef EDGESCALE_AP_INT_H
#define EDGESCALE_AP_INT_H

template <int W> class ap_uint {
    static_assert(W > 0 && W % 8 == 0, "whole bytes");
    unsigned char bytes[W / 8];

  public:
    class range_ref {
        unsigned char *at;
        int count;

      public:
        range_ref(unsigned char *at, int count) : at(at), count(count) {}
        range_ref &operator=(unsigned long long value)
        {
            for (int i = 0; i < count; i++)
                at[i] = (unsigned char)(value >> 8 * i);
            return *this;
        }
        range_ref &operator=(const range_ref &other) { return *this = other.to_uint64(); }
        unsigned long long to_uint64() const
        {
            unsigned long long value = 0;
            for (int i = 0; i < count; i++)
                value |= (unsigned long long)at[i] << 8 * i;
            return value;
        }
        unsigned to_uint() const { return (unsigned)to_uint64(); }
        operator unsigned long long() const { return to_uint64(); }
    };

    ap_uint() {}
    ap_uint(unsigned long long value)
    {
        for (int i = 0; i < W / 8; i++)
            bytes[i] = i < 8 ? (unsigned char)(value >> 8 * i) : 0;
    }
    range_ref range(int high, int low) const
    {
        return const_cast<ap_uint *>(this)->range(high, low);
    }
    range_ref range(int high, int low) { return range_ref(bytes + low / 8, (high - low + 1) / 8); }
    unsigned long long to_uint64() const
    {
        return range(W < 64 ? W - 1 : 63, 0).to_uint64();
    }
    unsigned to_uint() const { return (unsigned)to_uint64(); }
    operator unsigned long long() const { return to_uint64(); }
};

#endif
