import unittest

from calculator import divide_evenly


class DivideEvenlyTest(unittest.TestCase):
    def test_shares_are_equal_when_the_total_divides(self):
        self.assertEqual(divide_evenly(9, 3), [3, 3, 3])

    def test_nothing_is_lost_when_the_total_does_not_divide(self):
        self.assertEqual(divide_evenly(10, 3), [4, 3, 3])

    def test_zero_parts_are_refused(self):
        with self.assertRaises(ValueError):
            divide_evenly(10, 0)


if __name__ == "__main__":
    unittest.main()
