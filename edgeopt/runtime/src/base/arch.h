/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What this code was built for: as targets name it, and as Debian names folders of libraries. */
#ifndef EO_ARCH_H
#define EO_ARCH_H

#if defined(__aarch64__)
#define EO_ARCH "aarch64"
#define EO_MULTIARCH "aarch64-linux-gnu"
#elif defined(__x86_64__)
#define EO_ARCH "x86_64"
#define EO_MULTIARCH "x86_64-linux-gnu"
#elif defined(__arm__)
#define EO_ARCH "armv7"
#define EO_MULTIARCH "arm-linux-gnueabihf"
#else
#error "edgeopt_rt is built for aarch64, armv7 and x86_64"
#endif

#endif
