// SPDX-FileCopyrightText: edgeopt contributors
// SPDX-License-Identifier: Apache-2.0

package org.edgeopt.rt

/** What the library could not do; [code] is one of edgeopt_rt.h's (1 input, 2 bundle, 3 engine...). */
class EdgeoptException(val code: Int, val where: String, val reason: String) :
    Exception("$where: $reason") {
    /** Called by name from edgeopt_jni.c. */
    constructor(code: Int, where: ByteArray, reason: ByteArray) :
        this(code, String(where), String(reason))
}

/** One finding; [begin] and [end] are characters of the text (of the context of a question). */
data class Item(val label: String?, val score: Float, val begin: Int, val end: Int)

class Result(
    val items: List<Item>,
    val vector: FloatArray?,
    val tokens: Int,
    val truncated: Boolean,
)

internal object Native {
    init {
        System.loadLibrary("edgeopt_jni")
    }

    @JvmStatic external fun open(bundle: ByteArray, libraries: ByteArray?, threads: Int): Long
    @JvmStatic external fun close(handle: Long)
    @JvmStatic external fun facts(handle: Long): Array<ByteArray>
    @JvmStatic external fun run(handle: Long, text: ByteArray, pair: ByteArray?): Array<Any?>
}

/**
 * Opens [bundle], the path of a bundle's directory or packed file, in the first engine that opens.
 *
 * [libraries] are paths of engines' libraries, or of folders with them, with ':' between; null is
 * right for those of the app's own APK. Close it after use; calls wait for each other.
 */
class Session(bundle: String, libraries: String? = null, threads: Int = 0) : AutoCloseable {
    private var handle = Native.open(bundle.toByteArray(), libraries?.toByteArray(), threads)
    private val facts = Native.facts(handle).map { String(it) }

    val name get() = facts[0]
    val task get() = facts[1]
    val digest get() = facts[2]
    val engine get() = facts[3]
    val precision get() = facts[4]
    val labels: List<String> = facts.drop(5)

    /** Runs one text; [pair] is its second part, for a question the context. */
    @Synchronized
    fun run(text: String, pair: String? = null): Result {
        check(handle != 0L) { "the session is closed" }
        val first = text.toByteArray()
        val second = pair?.toByteArray()
        val (given, scores, vector) = Native.run(handle, first, second)
        val numbers = given as IntArray
        val read = second ?: first
        fun chars(bytes: Int) = String(read, 0, bytes).length
        val items = (scores as FloatArray).mapIndexed { i, score ->
            val (label, begin, end) = numbers.slice(2 + 3 * i..4 + 3 * i)
            Item(labels.getOrNull(label), score, chars(begin), chars(end))
        }
        return Result(items, vector as FloatArray?, numbers[0], numbers[1] != 0)
    }

    @Synchronized
    override fun close() {
        Native.close(handle)
        handle = 0
    }
}
