/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* registers BUS ADDRESS REGISTER VALUE...: sets 16-bit registers of an SMBus chip, also of one that a
 * driver holds. Linux Documentation/i2c/dev-interface.rst; the chip has the most significant byte
 * first, and SMBus sends the least first, hence the swap. */
#include <fcntl.h>
#include <linux/i2c-dev.h>
#include <linux/i2c.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    int bus = argc < 5 ? -1 : open(argv[1], O_RDWR);

    if (bus < 0 || ioctl(bus, I2C_SLAVE_FORCE, strtol(argv[2], NULL, 0)) != 0) {
        perror("registers");
        return 1;
    }
    for (int i = 3; i + 1 < argc; i += 2) {
        uint16_t value = (uint16_t)strtol(argv[i + 1], NULL, 0);
        union i2c_smbus_data data = {.word = (uint16_t)(value << 8 | value >> 8)};
        struct i2c_smbus_ioctl_data call = {.read_write = I2C_SMBUS_WRITE,
                                            .command = (uint8_t)strtol(argv[i], NULL, 0),
                                            .size = I2C_SMBUS_WORD_DATA,
                                            .data = &data};
        if (ioctl(bus, I2C_SMBUS, &call) != 0) {
            perror(argv[i]);
            return 1;
        }
    }
    return 0;
}
