"""glassmd"""
